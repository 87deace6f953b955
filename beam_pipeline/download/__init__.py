"""`python -m beam_pipeline.download`: COCO from its official hosts."""
