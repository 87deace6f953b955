"""Pictures of records: boxes, names and confidences on the image."""
