"""A run's shards and what stands beside them, for reports; names, captions and files try to break out of the page."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from region_features.exports.base import Sources
from region_features.exports.report import ReportExport
from region_features.formats.example import ImageExample, encode_example
from region_features.formats.tfrecord import write_record
from region_features.health.measure import measure
from region_features.records.failure import Failure
from region_features.records.stats import ShardStats
from region_features.report.run_files import RunFiles
from tests.samples.exports import ignore
from tests.samples.records import make_record
from transforms.shards import read_shard

ATTACK = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'>"
NAMES = ("man", "dog", f"cat {ATTACK}", "tree", "sky", "cup")
SETTINGS = {"conf_threshold": 0.5, "detector_config_sha256": "ab" * 32}
DESCRIBED: dict[str, Any] = {
    "settings": SETTINGS,
    "versions": {"python": "3.11"},
    "inputs": {"images": [ATTACK]},
    "detector_config": {"object_names": NAMES},
    "captions": {"failed_rows": 2},
    "reason": None,
}
_BEGAN = 1_790_000_000.0


def photo(seed: int) -> bytes:
    """Return a JPEG of 640 x 480 pixels."""
    blocks = np.random.default_rng(seed).integers(40, 255, (12, 16, 3), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(blocks.repeat(40, 0).repeat(40, 1)).save(encoded, "JPEG")
    return encoded.getvalue()


def example_of(number: int, boxes: int = 8) -> ImageExample:
    """Make an image with regions; some have captions, the first an evil one."""
    record = make_record(f"{ATTACK}_{number}" if number == 3 else f"photo_{number}", boxes, seed=number)
    if number == 5:  # as good as a copy of the one before
        twin = make_record("photo_4", boxes, seed=4)
        record = replace(record, features=twin.features * np.float32(1.001))
    captions = () if number % 3 == 2 else ((ATTACK,) if number == 0 else (f"A dog and {number} men.", "Another one"))
    split = ("train", "val", "")[number % 3]
    return ImageExample(record, f"{record.img_id}.jpg", "ab" * 32, captions, tuple(range(len(captions))), split)


def write_run(folder: Path, shards: int = 8, images: int = 4, described: Mapping[str, Any] = DESCRIBED) -> Sources:
    """Write shards; the images are made when they are asked for, and each shard has a failure."""
    paths, stats = [], {}
    for number in range(shards):
        examples = [example_of(number * images + place) for place in range(images)]
        path = str(folder / f"photos-{number:05d}-of-{shards:05d}.tfrecord")
        with open(path, "wb") as stream:
            for example in examples:
                write_record(stream, encode_example(example))
        reason = "the file is empty (0 bytes)" if number % 2 else f"damaged {ATTACK}"
        stats[path] = ShardStats(
            shard=Path(path).name,
            settings=SETTINGS,
            inputs="",
            ids=tuple(example.record.img_id for example in examples),
            image_sha256={},
            failures=(Failure(f"{ATTACK}/bad_{number}.jpg", f"bad_{number}", "decode", reason),),
            reused=0,
            num_bytes=Path(path).stat().st_size,
            sha256="cd" * 32,
            crc32c="",
            health=measure(example.record for example in examples),
        )
        paths.append(path)

    def read_file(uri: str) -> bytes:
        if uri.endswith("_1"):
            raise FileNotFoundError(2, "No such file or directory")
        return photo(len(uri))

    times = {path: _BEGAN + 90.0 * number for number, path in enumerate(paths)}
    run = RunFiles(lambda: described, stats.__getitem__, times.get, lambda _, img_id: img_id, read_file)
    num_bytes = sum(Path(path).stat().st_size for path in paths)
    return Sources("out", {"photos": tuple(paths)}, num_bytes, read_shard, lambda path: stats[path].ids, None, run)


def build_page(sources: Sources, folder: Path) -> str:
    """Build the report of these shards; return the page."""
    folder.mkdir(exist_ok=True)
    (target,) = ReportExport().targets(list(sources.shards), {})
    ReportExport().build(target, sources, str(folder), ignore)
    return (folder / "index.html").read_text(encoding="utf-8")
