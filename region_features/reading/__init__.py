"""Readers of shards and LMDBs for training programs: RegionFeatures and parse_example."""
