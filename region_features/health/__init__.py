"""Whether records look as the trained network gives them: measured on a sample, compared with its real output."""
