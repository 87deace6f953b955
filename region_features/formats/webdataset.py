"""Samples of a WebDataset: in a tar, the files of an image share a key, the part of their names before the first dot.

https://github.com/webdataset/webdataset#the-webdataset-format
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from region_features.formats import REMEDY
from region_features.formats.example import ImageExample
from region_features.formats.safetensors import encode_record

# A ustar header holds a name of this many bytes.
_MAX_NAME_BYTES = 100
JSON, ARRAYS = "json", "safetensors"


class Member(NamedTuple):
    """A file in a tar: its name, and where its bytes stand."""

    name: str
    offset: int
    size: int


def sample_key(img_id: str) -> str:
    """Return an image's key: its id, with a dot written `%2E` and `%` itself `%25`."""
    return img_id.replace("%", "%25").replace(".", "%2E")


def key_of_sample(key: str) -> str:
    """Return the id of the image that `sample_key` gave this key."""
    return key.replace("%2E", ".").replace("%25", "%")


def refuse_key(img_id: str) -> str | None:
    """Return why an image of this id cannot be a sample, None if it can."""
    longest = _MAX_NAME_BYTES - len(f".{ARRAYS}")
    if len(sample_key(img_id).encode()) > longest:
        return f"an id of more than {longest} bytes, where a dot counts three"
    return None


def encode_sample(example: ImageExample) -> dict[str, bytes]:
    """Return the files of an image: name -> content.

    `KEY.json` is an object of id, file name, size, number of boxes, captions and the image file's checksum;
    `KEY.safetensors` has the record's eight arrays, as an LMDB of the form `safetensors`.
    """
    record = example.record
    described = {
        "img_id": record.img_id,
        "filename": example.filename,
        "height": record.img_h,
        "width": record.img_w,
        "num_boxes": record.num_boxes,
        "captions": example.captions,
        "caption_ids": example.caption_ids,
        "split": example.split,
        "sha256": example.sha256,
    }
    key = sample_key(record.img_id)
    return {
        f"{key}.{JSON}": json.dumps(described, ensure_ascii=False).encode(),
        f"{key}.{ARRAYS}": encode_record(record, half=False),
    }


def write_tar(stream: BinaryIO, samples: Iterable[dict[str, bytes]]) -> None:
    """Write samples as a tar without times and owners: the same bytes for the same samples."""
    zeros = bytes(tarfile.RECORDSIZE)
    size = 0
    for sample in samples:
        for name, data in sample.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            padding = zeros[: -len(data) % tarfile.BLOCKSIZE]
            stream.writelines((header.tobuf(tarfile.USTAR_FORMAT, "utf-8"), data, padding))
            size += tarfile.BLOCKSIZE + len(data) + len(padding)
    end = 2 * tarfile.BLOCKSIZE
    stream.write(zeros[:end] + zeros[: -(size + end) % tarfile.RECORDSIZE])


def find_members(stream: BinaryIO, source: str) -> Iterator[Member]:
    """Find the files in a tar, without reading them.

    Raises:
        ValueError: it is no whole tar; begins with `source`.
        OSError: it cannot be read.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for entry in tar:
                if entry.size < 0:  # it would lead back, and round without end
                    raise ValueError(f"{entry.name!r:.200} of {entry.size} bytes from byte {entry.offset_data} on")
                yield Member(entry.name, entry.offset_data, entry.size)
                tar.members = []  # type: ignore[attr-defined]  # it would keep them all
    except (tarfile.TarError, ValueError) as error:  # a ValueError: numbers of a sparse file that are none
        raise ValueError(f"{source}: expected a whole tar, got: {error}; {REMEDY}") from error
