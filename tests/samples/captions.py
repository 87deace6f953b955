"""Rows and files of Karpathy's dataset_coco.json."""

from __future__ import annotations

import io
import json
from typing import Any

from region_features.formats.karpathy import read_dataset
from region_features.records.failure import Failure
from region_features.records.item import ImageCaptions
from tests.conftest import karpathy_row


def val_row(coco_id: int, split: str = "train", **changed: Any) -> dict[str, Any]:
    """The row of an image of val2014, with some fields changed."""
    return {**karpathy_row("val2014", f"COCO_val2014_{coco_id:012d}.jpg", coco_id, split), **changed}


def dataset_json(*rows: Any) -> bytes:
    return json.dumps({"images": rows, "dataset": "coco"}).encode()


def parse_dataset(data: bytes, source: str) -> tuple[list[ImageCaptions], list[Failure]]:
    """The good rows of a file, and its damaged ones."""
    rows = list(read_dataset(io.BytesIO(data).read, source))
    return [row for row in rows if isinstance(row, ImageCaptions)], [row for row in rows if isinstance(row, Failure)]
