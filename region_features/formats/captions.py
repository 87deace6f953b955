"""Captions files of every known schema, told apart by their beginning."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from region_features.formats.caption_lines import begins_with_a_line, read_caption_lines
from region_features.formats.coco_captions import read_coco_captions
from region_features.formats.karpathy import read_dataset
from region_features.formats.replayed import peek
from region_features.records.failure import Failure
from region_features.records.item import ImageCaptions

# Whichever comes first: names of Karpathy's fields, or of those of COCO's own files.
_FIELD = re.compile(rb'"(?:(?P<karpathy>filename|sentences|sentids)|(?P<coco>file_name|image_id))"\s*:')


def read_caption_file(read: Callable[[int], bytes], source: str) -> Iterator[ImageCaptions | Failure]:
    """Read a captions file row by row: Karpathy's `dataset_*.json`, COCO's `captions_*.json`, or JSON lines.

    Args:
        read: reads at most so many bytes of the file, none at its end.
        source: its name.

    Yields:
        The captions of an image, or a Failure of stage `captions` for a damaged row.

    Raises:
        ValueError: the file as a whole has none of these schemas.
    """
    head, read = peek(read)
    field = _FIELD.search(head)
    if begins_with_a_line(head):
        reader = read_caption_lines
    elif field and field["coco"]:
        reader = read_coco_captions
    else:
        reader = read_dataset
    return reader(read, source)
