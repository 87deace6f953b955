"""Checking an output folder. Imports nothing: the command handles signals while its imports run."""
