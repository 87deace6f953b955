"""RegionRecord: the one truth of the thirteen fields that every output carries.

K: boxes of the image; D: feature width; C: object classes with background; A: attributes with "none".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The order in which TSV columns and LMDB dictionaries hold the fields.
FIELD_NAMES = (
    "img_id",
    "img_h",
    "img_w",
    "objects_id",
    "objects_conf",
    "attrs_id",
    "attrs_conf",
    "num_boxes",
    "boxes",
    "features",
    "cls_prob",
    "attrs",
    "classes",
)


@dataclass(frozen=True)
class ArrayField:
    """One array of the record: its little-endian dtype and its shape after the leading K."""

    name: str
    dtype: str
    columns: int | None  # None: a vector (K,); 0: any width; n: exactly (K, n)


# Every codec walks this table; `classes` is `cls_prob` again and is never stored twice.
ARRAY_FIELDS = (
    ArrayField("objects_id", "<i8", None),
    ArrayField("objects_conf", "<f4", None),
    ArrayField("attrs_id", "<i8", None),
    ArrayField("attrs_conf", "<f4", None),
    ArrayField("boxes", "<f4", 4),
    ArrayField("features", "<f4", 0),
    ArrayField("cls_prob", "<f4", 0),
    ArrayField("attrs", "<f4", 0),
)


@dataclass(frozen=True, eq=False)
class RegionRecord:
    """The regions of one image, as bottom-up attention's extraction script gives them.

    Attributes:
        img_id: file stem of the image.
        img_h, img_w: pixels of the original image.
        objects_id: int64 (K,), arg-max over the foreground classes, 0-based.
        objects_conf: float32 (K,), its probability.
        attrs_id, attrs_conf: int64 and float32 (K,), the same over the attributes.
        boxes: float32 (K, 4), x1, y1, x2, y2 in pixels of the original image.
        features: float32 (K, D), pooled res5 features.
        cls_prob: float32 (K, C), background first.
        attrs: float32 (K, A), attribute probabilities, "none" first.

    Raises:
        ValueError: an array has not the dtype or shape that ARRAY_FIELDS asks for.
    """

    img_id: str
    img_h: int
    img_w: int
    objects_id: NDArray[np.int64]
    objects_conf: NDArray[np.float32]
    attrs_id: NDArray[np.int64]
    attrs_conf: NDArray[np.float32]
    boxes: NDArray[np.float32]
    features: NDArray[np.float32]
    cls_prob: NDArray[np.float32]
    attrs: NDArray[np.float32]

    def __post_init__(self) -> None:
        count = len(self.boxes)
        for field in ARRAY_FIELDS:
            array = getattr(self, field.name)
            wanted = (count,) if field.columns is None else (count, field.columns or array.shape[-1])
            if array.dtype != np.dtype(field.dtype) or array.shape != wanted:
                raise ValueError(
                    f"image {self.img_id}, field {field.name}: expected {field.dtype} of shape {wanted}, "
                    f"got {array.dtype.str} of shape {array.shape}; is the record's source damaged?"
                )

    @property
    def num_boxes(self) -> int:
        """K, the number of boxes."""
        return len(self.boxes)

    @property
    def classes(self) -> NDArray[np.float32]:
        """The thirteenth field: `cls_prob` under its second name."""
        return self.cls_prob
