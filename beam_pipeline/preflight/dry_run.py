"""`--dry_run`: what a run would do and cost; nothing is written, and no weights are read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from beam_pipeline.flags.config import Config
from beam_pipeline.preflight.job import Job
from beam_pipeline.progress.summary import counted, readable_size
from region_features.exports.base import Export, Sources
from region_features.formats.example import ImageExample, encode_example
from region_features.formats.tfrecord import write_record
from region_features.records.item import ImageCaptions
from region_features.records.region_record import RegionRecord
from transforms import files
from transforms.shards import read_shard

# Images a second of the network of full size; see docs/performance.md. No GPU was measured.
_MEASURED = {"cpu": 0.235}
_WIDTH, _CLASSES, _ATTRIBUTES = 2048, 1601, 401
_SAMPLES = 32


def describe_dry_run(job: Job) -> str:
    """Say what a checked run would do, a line each.

    Raises:
        OSError: no temporary file can be written, into which a few made-up records are exported to be weighed.
    """
    config, plan = job.config, job.plan
    work = job.work.count()
    sets = {name: sum(key.num_images for key in plan.shards if key.set_name == name) for name in plan.set_names}
    lines = [
        f"images: {plan.num_images:,} in {counted(len(sets), 'set')}, "
        + ", ".join(f"{name} {count:,}" for name, count in sets.items()),
        f"shards: {len(plan.shards):,}: {len(plan.shards) - len(job.work.todo):,} are there, "
        f"{len(job.work.copies):,} are copies of an earlier run's, {len(job.work.to_make):,} are to be made",
        f"images to do: {work.new:,} new or changed, {work.compared:,} to be compared with what an earlier run read, "
        f"{work.reused:,} taken over",
        *_sizes(job, sets),
        *_time_and_money(config, work.new + work.compared),
        "nothing was written; the weights were not read, and are taken to be those of the earlier runs",
    ]
    return "\n".join(lines)


def _sizes(job: Job, sets: dict[str, int]) -> Iterator[str]:
    """Weigh each output by a sample: as many bytes a record as a few made-up records take."""
    boxes = job.config.max_boxes
    largest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        shard, captions = _write_sample(Path(folder), boxes)
        a_record = shard.stat().st_size / _SAMPLES
        yield f"about {readable_size(int(a_record * sum(sets.values())))}: tfrecord, {boxes} boxes an image"
        for export in job.exports:
            each = _bytes_a_record(export, shard, captions, job)
            for target in export.targets(list(sets), job.plan.settings):
                size = each * sum(sets[name] for name in target.sets)
                largest = max(largest, size)
                yield f"about {readable_size(int(size))}: {export.name}, {target.name}"
    where = f"a worker's own disk: {readable_size(int(largest))} for the largest output, while it is built"
    yield where if files.is_remote(job.layout.output) else "what is built lies on the disk of --output meanwhile"


def _write_sample(folder: Path, boxes: int) -> tuple[Path, list[ImageCaptions]]:
    rng = np.random.default_rng(0)
    shard, captions = folder / "sample.tfrecord", []
    with shard.open("wb") as stream:
        for number in range(100, 100 + _SAMPLES):  # of one number of digits, so that their keys ascend
            features = rng.standard_normal((boxes, _WIDTH), np.float32).clip(0)  # half are zero, as after a ReLU
            record = RegionRecord(
                img_id=f"COCO_train2014_{number:012d}",
                img_h=480,
                img_w=640,
                objects_id=rng.integers(0, _CLASSES - 1, boxes),
                objects_conf=rng.random(boxes, np.float32),
                attrs_id=rng.integers(0, _ATTRIBUTES - 1, boxes),
                attrs_conf=rng.random(boxes, np.float32),
                boxes=np.tile(np.array([[0, 0, 100, 100]], np.float32), (boxes, 1)),
                features=features,
                cls_prob=rng.random((boxes, _CLASSES), np.float32),
                attrs=rng.random((boxes, _ATTRIBUTES), np.float32),
            )
            sentences = ("A caption of about fifty characters or so.",) * 5
            told = ImageCaptions(record.img_id, number, "train", sentences, tuple(range(5 * number, 5 * number + 5)))
            captions.append(told)
            example = ImageExample(record, f"{record.img_id}.jpg", "0" * 64, told.sentences, told.sentence_ids, "train")
            write_record(stream, encode_example(example))
    return shard, captions


def _bytes_a_record(export: Export, shard: Path, captions: list[ImageCaptions], job: Job) -> float:
    ids = tuple(image.img_id for image in captions)
    (target,) = export.targets(["train2014"], job.plan.settings)
    sources = Sources(
        output=str(shard),
        shards={"train2014": (str(shard),)},
        num_bytes=shard.stat().st_size,
        read_shard=read_shard,
        read_ids=lambda _: ids,
        read_captions=lambda: iter(captions),
    )
    with tempfile.TemporaryDirectory() as scratch:
        export.build(target, sources, scratch, lambda what, total: None)
        sizes = (os.path.getsize(os.path.join(base, name)) for base, _, names in os.walk(scratch) for name in names)
        return sum(sizes) / len(ids)


def _time_and_money(config: Config, images: int) -> Iterator[str]:
    device = "cuda" if config.device == "cuda" else "cpu"
    rate = config.images_per_second or _MEASURED.get(device)
    if rate is None:
        yield f"time: give --images_per_second of one worker; none was measured for {device}"
        return
    source = "as given" if config.images_per_second else "as measured on two cores"
    hours = images / rate / 3600
    yield f"time of the network: {hours:,.1f} hours of one worker at {rate:g} images/s, {source}"
    if config.price_per_hour is not None:
        yield f"price of that: {hours * config.price_per_hour:,.2f} at {config.price_per_hour:g} an hour of a worker"
