"""File formats, one a file: encode beside decode."""

REMEDY = "the data is damaged or comes from another program: delete it, then build it or copy it again"
LARGEST_ARRAY = 64 << 20  # bytes of one array of an image, or of its row: 300 boxes of all widths take 5 MB
