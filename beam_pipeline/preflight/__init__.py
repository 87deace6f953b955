"""What is found and checked before a run begins; nothing is written."""
