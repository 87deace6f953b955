"""Files for MCAN and OpenVQA: a folder a set, an npz an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from region_features.exports.base import Target
from region_features.exports.image_files import ImageFilesExport, refuse_long_id
from region_features.formats.openvqa import encode_openvqa
from region_features.records.region_record import RegionRecord

_SUFFIX = ".jpg.npz"


@dataclass(frozen=True)
class OpenVqaExport(ImageFilesExport):
    """`openvqa/val2014/COCO_val2014_000000000042.jpg.npz` and so on; their loaders search no subfolders."""

    name = "openvqa"

    def targets(self, sets: Sequence[str], settings: Mapping[str, Any]) -> Iterator[Target]:
        """Name a folder after its set: COCO's are those that the loaders have in their paths."""
        for set_name in sets:
            yield Target(set_name, (set_name,), folder=self.name, contents=set_name)

    def refuse_id(self, img_id: str) -> str | None:
        """Refuse what is too long for a file."""
        return refuse_long_id(img_id, _SUFFIX)

    def file_name(self, target: Target, img_id: str) -> str:
        """Name the file as that of a JPEG, whatever the image is: the loaders look for the number in it."""
        return img_id + _SUFFIX

    def encode(self, target: Target, record: RegionRecord) -> bytes:
        """Return the npz."""
        return encode_openvqa(record)
