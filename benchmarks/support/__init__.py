"""Corpora, fakes, alternatives and tables that the benchmarks share."""
