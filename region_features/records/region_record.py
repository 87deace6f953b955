"""RegionRecord: the thirteen fields that every output holds for an image.

K: boxes of the image; D: feature width; C: object classes with background; A: attributes with "none".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The order of TSV columns and of the keys in LMDB dictionaries.
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
    """An array of the record: its little-endian dtype, and its number of columns if it is a matrix (K, columns)."""

    name: str
    dtype: str
    columns: int | None  # None: a vector (K,); 0: any number


# Every codec loops over this table. `classes` is missing: it equals `cls_prob`.
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
    """The regions of one image, as bottom-up attention's extraction script outputs them.

    An array that an imported file lacks has no elements: a vector the shape (0,), a matrix (K, 0). An array whose dtype
    or shape is otherwise not that of ARRAY_FIELDS is a ValueError.
    """

    img_id: str  # file stem of the image
    img_h: int  # height and width of the original image in pixels
    img_w: int
    objects_id: NDArray[np.int64]  # (K,), most probable foreground class, 0-based
    objects_conf: NDArray[np.float32]  # (K,), its probability
    attrs_id: NDArray[np.int64]  # (K,), most probable attribute other than "none", 0-based
    attrs_conf: NDArray[np.float32]  # (K,), its probability
    boxes: NDArray[np.float32]  # (K, 4), x1, y1, x2, y2 in pixels of the original image
    features: NDArray[np.float32]  # (K, D), pooled res5 features
    cls_prob: NDArray[np.float32]  # (K, C), background first
    attrs: NDArray[np.float32]  # (K, A), attribute probabilities, "none" first

    def __post_init__(self) -> None:
        count = len(self.boxes)
        for field in ARRAY_FIELDS:
            array = getattr(self, field.name)
            shape = (count,) if field.columns is None else (count, field.columns or array.shape[-1])
            missing = field.columns is None and array.shape == (0,)
            if array.dtype != np.dtype(field.dtype) or (array.shape != shape and not missing):
                raise ValueError(
                    f"image {self.img_id}, field {field.name}: expected {field.dtype} of shape {shape}, "
                    f"got {array.dtype.str} of shape {array.shape}; is the record's source damaged?"
                )

    def lacks(self, name: str) -> bool:
        """Return whether an array is missing: there are boxes, and it has no elements."""
        return self.num_boxes > 0 and not getattr(self, name).size

    @property
    def num_boxes(self) -> int:
        """K, the number of boxes."""
        return len(self.boxes)

    @property
    def classes(self) -> NDArray[np.float32]:
        """The thirteenth field, an alias of `cls_prob`."""
        return self.cls_prob
