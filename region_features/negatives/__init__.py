"""Hard negatives: the images nearest to each image by mean-pooled features."""
