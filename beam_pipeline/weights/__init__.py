"""`python -m beam_pipeline.weights`: weights files described and converted."""
