"""File formats, one a file: encode beside decode."""

REMEDY = "the data is damaged or comes from another program: delete it, then build it or copy it again"
