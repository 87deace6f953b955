"""Hard negatives: each image's nearest others by mean-pooled features."""
