"""What is built from the audited shards: LMDBs, TSVs, hard negatives."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from beam_pipeline.layout import Paths
from beam_pipeline.preflight import Job
from transforms import files
from transforms.lmdb import LmdbJob
from transforms.manifest import Audit, Extra
from transforms.negatives import NegativesJob, NegativesResult
from transforms.tsv import TsvJob, TsvResult

# What LXMERT's and VOLTA's scripts call COCO's sets.
_TSV_NAMES = {"train2014": "train", "val2014": "valid", "test2015": "test"}


@dataclass(frozen=True)
class Wanted:
    """What of a Job the steps after the audit need; the Job itself holds every image and must stay out of the graph.

    Attributes:
        outputs: what to make.
        paths: where it goes.
        boxes: how the images' boxes were chosen, for names: `obj36-36`, or `boxes` for those of --boxes.
        captions: dataset_coco.json, None where there is none.
        lmdb_form, tsv_columns, negatives_pool, device: the flags.
    """

    outputs: tuple[str, ...]
    paths: Paths
    boxes: str
    captions: str | None
    lmdb_form: str
    tsv_columns: int
    negatives_pool: int
    device: str


def wanted_of(job: Job) -> Wanted:
    """The small part of a Job."""
    config = job.config
    return Wanted(
        outputs=job.outputs,
        paths=job.paths,
        boxes=boxes_name(job.plan.settings),
        captions=job.captions,
        lmdb_form=config.lmdb_form,
        tsv_columns=config.tsv_columns,
        negatives_pool=config.negatives_pool,
        device=config.device,
    )


def boxes_name(settings: Mapping[str, Any]) -> str:
    """How a plan's images got their boxes, as file names tell it."""
    if "boxes_sha256" in settings:
        return "boxes"
    return f"obj{settings.get('min_boxes')}-{settings.get('max_boxes')}"


def tsv_name(set_name: str, boxes: str) -> str:
    """The file name of a set's TSV."""
    return f"{_TSV_NAMES.get(set_name, set_name)}_{boxes}.tsv"


def tsv_digest(audit: Audit, shards: Sequence[str]) -> str:
    """Hex digest of the content of a set's published shards."""
    return hashlib.sha256("".join(audit.shards[shard]["sha256"] for shard in shards).encode()).hexdigest()


def negatives_digest(audit: Audit) -> str:
    """Hex digest of the content of all shards."""
    return hashlib.sha256("".join(digest for _, digest in audit.lmdbs.values()).encode()).hexdigest()


def lmdb_jobs(audit: Audit, wanted: Wanted) -> Iterator[LmdbJob]:
    """The LMDBs to build; none where the run failed."""
    if "lmdb" not in wanted.outputs or audit.error:
        return
    for name, (sets, digest) in audit.lmdbs.items():
        paths = tuple(_paths(wanted, shards) for shards in sets)
        output = files.join(wanted.paths.lmdbs, f"{name}_feat.lmdb")
        yield LmdbJob(name, output, paths, digest, wanted.lmdb_form)


def tsv_jobs(audit: Audit, wanted: Wanted) -> Iterator[TsvJob]:
    """One TSV a set, `train_obj36-36.tsv`; none where the run failed."""
    if "tsv" not in wanted.outputs or audit.error:
        return
    for shards in (shards for sets, _ in audit.lmdbs.values() for shards in sets):
        set_name = shards[0].rpartition("-of-")[0].rpartition("-")[0]
        output = files.join(wanted.paths.features, tsv_name(set_name, wanted.boxes))
        yield TsvJob(output, _paths(wanted, shards), wanted.tsv_columns, tsv_digest(audit, shards))


def negatives_jobs(audit: Audit, wanted: Wanted) -> Iterator[NegativesJob]:
    """The hard negatives of all training images; none where the run failed."""
    if "negatives" not in wanted.outputs or audit.error or wanted.captions is None:
        return
    shards, digest = _paths(wanted, tuple(audit.shards)), negatives_digest(audit)
    yield NegativesJob(wanted.paths.output, shards, wanted.captions, wanted.negatives_pool, wanted.device, digest)


def _paths(wanted: Wanted, shards: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(files.join(wanted.paths.shards, shard) for shard in shards)


def tsv_extra(result: TsvResult) -> Extra:
    """A TSV for the manifest."""
    return "tsv", result.output.rpartition("/")[2], {"rows": result.rows, "bytes": result.bytes}


def negatives_extras(result: NegativesResult) -> Iterator[Extra]:
    """The hard negatives' files for the manifest."""
    counts: dict[str, Any] = {
        "images": result.images,
        "columns": result.columns,
        "images_left_out": result.images_left_out,
        "captions_left_out": result.captions_left_out,
    }
    for name, size in sorted(result.file_bytes.items()):
        yield "negatives", name, {**counts, "bytes": size}
