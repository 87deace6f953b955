"""Small exports of hard negatives, and their results as VOLTA reads them."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from region_features.exports.hard_negatives import HardNegativesExport
from region_features.records.region_record import RegionRecord
from region_features.records.stats import STATS_SUFFIX, ShardStats
from tests.samples.exports import export_job
from tests.samples.pinned import pin
from tests.samples.records import make_record, write_shard
from transforms.annotations import write_annotation_files
from transforms.exports import ExportJob

FILES = ("hard_negative.npz", "hard_negative.pkl", "hard_negative.source.json")
SPLITS = ("restval", "train", "val", "train", "test")


def img_id_of(number: int) -> str:
    return f"COCO_{'val' if number % 3 else 'train'}2014_{number:012d}"


def write_captions(path: Path, numbers: list[int]) -> str:
    """Write dataset_coco.json for the images of these numbers, which are the coco ids; the splits take turns."""
    rows = [
        {
            "filename": f"{img_id_of(number)}.jpg",
            "cocoid": number,
            "split": SPLITS[position % len(SPLITS)],
            "sentences": [{"raw": "a dog", "sentid": number}],
        }
        for position, number in enumerate(numbers)
    ]
    path.write_text(json.dumps({"images": rows, "dataset": "coco"}))
    return str(path)


def write_whole_shard(path: Path, records: list[RegionRecord]) -> str:
    write_shard(path, records)
    ids = tuple(record.img_id for record in records)
    stats = ShardStats(path.name, {}, "", ids, {}, (), 0, path.stat().st_size, "", "")
    Path(f"{path}{STATS_SUFFIX}").write_bytes(stats.to_json())
    return str(path)


def record_of(number: int, seed: int = 0, **options: Any) -> RegionRecord:
    record = make_record(img_id_of(number), boxes=5, width=24, seed=seed)
    return dataclasses.replace(record, features=np.maximum(record.features, 0), **options)


def make_job(folder: Path, images: int = 300, pool: int = 100, seed: int = 0, digest: str = "d1") -> ExportJob:
    """Return a job on images 0 to 299 in shards of 64, with captions of images 10 to 309 in random order."""
    folder.mkdir(exist_ok=True)
    shards = tuple(
        write_whole_shard(
            folder / f"{start:05d}.tfrecord",
            [record_of(number, seed) for number in range(start, min(start + 64, images))],
        )
        for start in range(0, images, 64)
    )
    numbers = np.random.default_rng(0).permutation(np.arange(10, images + 10)).tolist()
    captions = pin(write_captions(folder / "dataset_coco.json", numbers))
    return export_job(
        HardNegativesExport(pool, "cpu"), folder / "out", {"train2014": shards}, digest, captions=captions
    )


def in_caption_order(job: ExportJob, folder: Path, images: int = 300) -> list[int]:
    """Return the ids of train_ann.jsonl, in its order, without those of images that have no record."""
    assert job.captions
    dict(write_annotation_files(job.captions, str(folder), None))
    ids = [json.loads(line)["id"] for line in (folder / "train_ann.jsonl").read_text().splitlines()]
    return [number for number in ids if number < images]


def means_of(numbers: list[int]) -> NDArray[np.float32]:
    return np.stack([record_of(number).features.mean(axis=0) for number in numbers])


def load(output: str) -> dict[str, Any]:
    content: dict[str, Any] = pickle.loads(Path(output, "hard_negative.pkl").read_bytes())
    return content


def job_of(folder: Path, records: list[list[RegionRecord]], numbers: list[int]) -> ExportJob:
    """Return a job on these shards of records, with captions of split train for the images of these numbers."""
    shards = tuple(write_whole_shard(folder / f"{number}.tfrecord", part) for number, part in enumerate(records))
    captions = Path(write_captions(folder / "c.json", numbers))
    for split in SPLITS:
        captions.write_text(captions.read_text().replace(f'"split": "{split}"', '"split": "train"'))
    return export_job(HardNegativesExport(100, "cpu"), folder / "out", {"train2014": shards}, captions=pin(captions))
