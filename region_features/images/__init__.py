"""Encoded images to pixels, one by one, in batches, or out of zip archives."""
