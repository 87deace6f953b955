"""The report on a run: statistics in one pass over the shards, pictures, and one page that holds them."""
