"""Weights of the network in every known file format, read without torch and without running pickles."""
