"""Region records in LMDB folders."""
