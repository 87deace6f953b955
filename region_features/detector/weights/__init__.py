"""Readers of the network's weights in every known file format; none imports torch or runs a pickle."""
