"""Images of shards with fake results, and a writer that is called as a runner calls it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from region_features.records.failure import ImageFailure
from region_features.records.item import CaptionedImage, ImageCaptions, ImageItem
from region_features.records.plan import ImageRef, Plan, ShardKey
from region_features.records.region_record import RegionRecord
from tests.samples.fakes import fake_prepare, fake_record
from transforms import files
from transforms.shards import _WriteShard

Element = tuple[ImageItem, RegionRecord | ImageFailure]
SETTINGS = {"weights_sha256": "abc", "min_boxes": 36, "conf_threshold": 0.2, "captions_sha256": None}
CAPTIONS = ImageCaptions("a", 7, "restval", ("A café. ", "Two"), (70, 71))


def elements(set_name: str = "photos", number: int = 0, of: int = 1, count: int = 4) -> list[Element]:
    """Return a shard's images: the first has captions, the second failed."""
    shard = ShardKey(set_name, number, of, count)
    images: list[Element] = []
    for index in range(count):
        img_id = f"{set_name}_{number}{index}"
        captions = replace(CAPTIONS, img_id=img_id) if index == 0 else None
        image = CaptionedImage(ImageRef(set_name, img_id, f"in put/{img_id}.jpg", 100 + index), captions)
        pixels = np.full((4, 5, 3), 10 * number + index + 1, np.uint8)
        failed = index == 1
        result = ImageFailure("decode", "the file is empty") if failed else fake_record(fake_prepare(img_id, pixels))
        images.append((ImageItem(shard, image, f"{index:064x}"), result))
    return images


def run_bundle(writer: _WriteShard, images: list[Element]) -> list[str]:
    writer.start_bundle()
    shards = [name for image in images for name in writer.process(image)]
    return shards + [last.value for last in writer.finish_bundle()]


def plan_of(images: list[Element], **settings: Any) -> Plan:
    shards: dict[ShardKey, tuple[ImageRef, ...]] = {}
    for item, _ in images:
        shards[item.shard] = (*shards.get(item.shard, ()), item.image.ref)
    return Plan({**SETTINGS, **settings}, shards)


def names(folder: Path) -> list[str]:
    """List the files of a folder."""
    return sorted(os.listdir(folder)) if folder.exists() else []


def visible(folder: Path) -> list[str]:
    """List those that are finished work."""
    return [name for name in names(folder) if not name.startswith(files.TEMP_PREFIX)]
