"""Checks of records, caption files and hard negatives; each yields Problems."""
