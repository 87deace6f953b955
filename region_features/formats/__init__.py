"""File formats, one a file: encode beside decode."""
