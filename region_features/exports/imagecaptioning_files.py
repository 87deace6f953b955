"""Files for ImageCaptioning.pytorch: features, their mean, and boxes, each in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from region_features.exports.base import Target, group_sets
from region_features.exports.image_files import ImageFilesExport, refuse_long_id
from region_features.formats.imagecaptioning import FILES_FORM, encode_att, encode_box, encode_fc
from region_features.records.coco import joint_name
from region_features.records.key import lmdb_key
from region_features.records.region_record import RegionRecord

# The end of a folder's name -> the files' suffix, and their codec.
_PARTS = {"att": (".npz", encode_att), "fc": (".npy", encode_fc), "box": (".npy", encode_box)}


@dataclass(frozen=True)
class ImageCaptioningFilesExport(ImageFilesExport):
    """`cocobu_att/42.npz`, `cocobu_fc/42.npy`, `cocobu_box/42.npy` and so on: the LMDBs' values as files.

    The folders hold COCO's training and validation images; any other set has `SETbu_att` and so on.
    """

    imagecaptioning_form: str = FILES_FORM

    name = "imagecaptioning"

    @property
    def requested(self) -> bool:
        """Whether this form is asked for."""
        return self.imagecaptioning_form == FILES_FORM

    def targets(self, sets: Sequence[str], settings: Mapping[str, Any]) -> Iterator[Target]:
        """Name the three folders of each group of sets."""
        for group, members in group_sets(sets, partial(joint_name, joint="coco")):
            for part in _PARTS:
                name = f"{group}bu_{part}"
                yield Target(name, members, folder=self.name, contents=name)

    def refuse_id(self, img_id: str) -> str | None:
        """Refuse what is too long for a file."""
        return refuse_long_id(img_id, ".npz")

    def file_name(self, target: Target, img_id: str) -> str:
        """Name the file after the number of the image, or else its id."""
        suffix, _ = _PARTS[target.name.rpartition("_")[2]]
        return lmdb_key(img_id).decode() + suffix

    def encode(self, target: Target, record: RegionRecord) -> bytes:
        """Return the npz or npy."""
        _, encode = _PARTS[target.name.rpartition("_")[2]]
        return encode(record)
