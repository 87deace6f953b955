"""`python -m beam_pipeline.rebuild`: the versions of a corpus that changes, built on a schedule."""
