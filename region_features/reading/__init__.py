"""RegionFeatures and parse_example: what training programs read shards and LMDBs with."""
