"""`python -m beam_pipeline.report`: the page on a run."""
