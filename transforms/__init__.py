"""Beam transforms that turn image sets into region-feature training data."""
