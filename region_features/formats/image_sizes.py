"""Sizes of images: COCO's files, `captions_val2014.json` for one, or JSON lines of `img_id`, `height` and `width`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from region_features.formats.caption_lines import IMG_ID, begins_with_a_line, read_lines
from region_features.formats.json_stream import iter_lists
from region_features.formats.replayed import peek
from region_features.records.json_text import parse_json


def read_image_sizes(read: Callable[[int], bytes], source: str) -> Iterator[tuple[str, int, int]]:
    """Yield the id (file stem), height and width of each image, in the order of the file.

    Args:
        read: reads at most so many bytes of the file, none at its end.
        source: its name.

    Raises:
        ValueError: the file is of neither schema, or a row lacks one of the three; names the row.
    """
    head, read = peek(read)
    if begins_with_a_line(head):
        lines = ((number, line) for number, line in enumerate(read_lines(read, source), start=1) if line.strip())
        rows: Iterator[tuple[str, Any]] = ((f"line {number}", _parsed(line)) for number, line in lines)
    else:
        rows = ((f"images[{number}]", row) for number, row in enumerate(_images(read, source)))
    for place, row in rows:
        told: dict[str, Any] = row if isinstance(row, dict) else {}
        name = told.get(IMG_ID) or told.get("file_name")
        sides: list[Any] = [told.get(side) for side in ("height", "width")]
        if not isinstance(name, str) or not all(type(side) is int and 0 < side < 1 << 31 for side in sides):
            raise ValueError(
                f"{source}, {place}: expected file_name or img_id, height and width of an image, got {row!r:.100}"
            )
        stem = name if IMG_ID in told else name.rpartition("/")[2].rpartition(".")[0]
        yield stem, sides[0], sides[1]


def _images(read: Callable[[int], bytes], source: str) -> Iterator[Any]:
    """Yield the items of `images`; a list of annotations is passed over item by item, whatever its length."""
    try:
        for field, item in iter_lists(read, ("images",), ("annotations",)):
            if field == "images":
                yield item
    except ValueError as error:
        raise ValueError(
            f"{source}: expected sizes of images, COCO's object with a list 'images' or JSON lines of img_id, height "
            f"and width, got: {error}"
        ) from error


def _parsed(line: bytes) -> Any:
    try:
        return parse_json(line)
    except ValueError:
        return line
