"""`python -m beam_pipeline.fetch`: an output, or the latest version of a corpus, brought to a training machine."""
