"""Small jobs of hard negatives for tests, and their results as the consumers read them."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transforms.negatives import NegativesJob

from region_features.records.region_record import RegionRecord
from region_features.records.stats import STATS_SUFFIX, ShardStats
from tests.samples.records import make_record, write_shard
from transforms.annotations import write_annotation_files

FILES = ("hard_negative.npz", "hard_negative.pkl", "hard_negative.source.json")
SPLITS = ("restval", "train", "val", "train", "test")


def img_id_of(number: int) -> str:
    return f"COCO_{'val' if number % 3 else 'train'}2014_{number:012d}"


def write_captions(path: Path, numbers: list[int]) -> str:
    """dataset_coco.json in the order of the numbers; the splits take turns, and the coco id is the number."""
    rows = [
        {
            "filename": f"{img_id_of(number)}.jpg",
            "cocoid": number,
            "split": SPLITS[place % len(SPLITS)],
            "sentences": [{"raw": "a dog", "sentid": number}],
        }
        for place, number in enumerate(numbers)
    ]
    path.write_text(json.dumps({"images": rows, "dataset": "coco"}))
    return str(path)


def write_whole_shard(path: Path, records: list[RegionRecord]) -> str:
    write_shard(path, records)
    stats = ShardStats(path.name, {}, "", tuple(record.img_id for record in records), (), path.stat().st_size, "")
    Path(f"{path}{STATS_SUFFIX}").write_bytes(stats.to_json())
    return str(path)


def record_of(number: int, seed: int = 0, **options: Any) -> RegionRecord:
    record = make_record(img_id_of(number), boxes=5, width=24, seed=seed)
    return dataclasses.replace(record, features=np.maximum(record.features, 0), **options)


def make_job(folder: Path, images: int = 300, pool: int = 100, seed: int = 0, digest: str = "d1") -> NegativesJob:
    """Images 0 to 300 in shards of 64; captions of 10 to 310, shuffled."""
    folder.mkdir(exist_ok=True)
    shards = tuple(
        write_whole_shard(
            folder / f"{start:05d}.tfrecord",
            [record_of(number, seed) for number in range(start, min(start + 64, images))],
        )
        for start in range(0, images, 64)
    )
    numbers = np.random.default_rng(0).permutation(np.arange(10, images + 10)).tolist()
    captions = write_captions(folder / "dataset_coco.json", numbers)
    return NegativesJob(str(folder / "out"), shards, captions, pool, "cpu", digest)


def in_caption_order(job: NegativesJob, folder: Path, images: int = 300) -> list[int]:
    """The ids of train_ann.jsonl whose images there are."""
    dict(write_annotation_files(job.captions, str(folder), None))
    ids = [json.loads(line)["id"] for line in (folder / "train_ann.jsonl").read_text().splitlines()]
    return [number for number in ids if number < images]


def means_of(numbers: list[int]) -> NDArray[np.float32]:
    return np.stack([record_of(number).features.mean(axis=0) for number in numbers])


def load(output: str) -> dict[str, Any]:
    content: dict[str, Any] = pickle.loads(Path(output, "hard_negative.pkl").read_bytes())
    return content


def job_of(folder: Path, records: list[list[RegionRecord]], numbers: list[int]) -> NegativesJob:
    """All images are of split train."""
    shards = tuple(write_whole_shard(folder / f"{place}.tfrecord", part) for place, part in enumerate(records))
    captions = Path(write_captions(folder / "c.json", numbers))
    for split in SPLITS:
        captions.write_text(captions.read_text().replace(f'"split": "{split}"', '"split": "train"'))
    return NegativesJob(str(folder / "out"), shards, str(captions), 100, "cpu", "d")
