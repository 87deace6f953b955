"""`python -m beam_pipeline.compare`: whether two sets of features are of one network."""
