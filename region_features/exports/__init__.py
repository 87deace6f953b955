"""Exports: what is built from whole shards for training programs, one format a file, with the check of its content."""
