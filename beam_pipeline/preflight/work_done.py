"""What a run itself did, of all that is in its output, and where to look next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tqdm import tqdm

from beam_pipeline.flags.config import Config
from beam_pipeline.preflight.job import Done, Job
from beam_pipeline.progress.summary import counted
from transforms.plans import refs_of


class WorkDone(NamedTuple):
    """What a run did itself.

    Attributes:
        reused_shards: whole shards that were there.
        reused_images: images of them.
        taken_records: records that were imported, or taken over from another output.
        computed: records that the network gave.
        failed: images that gave none.
    """

    reused_shards: int
    reused_images: int
    taken_records: int
    computed: int
    failed: int


def count_work(manifest: Mapping[str, Any], done: Done) -> WorkDone:
    """Count what a run did.

    Args:
        manifest: of the output, once the run has ended.
        done: what was there before.
    """
    counts = manifest["counts"]
    taken = counts["reused"] - done.reused
    failed = counts["failed"] - (done.images - done.written)
    return WorkDone(done.shards, done.images, taken, counts["written"] - done.written - taken, failed)


def describe_work(work: WorkDone, config: Config, seconds: float, rate: float) -> str:
    """Say in one line what was there before and what the run added.

    Args:
        work: what it did.
        config: what the user asked for.
        seconds: that it took.
        rate: images a second while it detected, 0 where that is not known.
    """
    parts = []
    if work.reused_shards:
        parts.append(f"reused {counted(work.reused_shards, 'shard')} ({counted(work.reused_images, 'image')})")
    if work.taken_records:
        verb, source = ("imported", "") if config.imports else ("took over", f" of {config.reuse}")
        parts.append(f"{verb} {counted(work.taken_records, 'record')}{source}")
    if not config.imports:
        parts.append(f"computed {work.computed if parts else counted(work.computed, 'image')}")
    if work.failed:
        parts.append(f"{work.failed} failed")
    speed = f", {rate:.2f} images/s" if rate and work.computed else ""
    return f"{', '.join(parts)} in {tqdm.format_interval(seconds)}{speed}"


def next_steps(manifest: Mapping[str, Any], job: Job) -> Iterator[str]:
    """Name the commands that show what came out; nothing where no image did."""
    if not manifest["counts"]["written"]:
        return
    output = shlex.quote(job.layout.output)
    failed = {failure.img_id for failure in job.provenance.failures}
    example = next((ref.img_id for ref in refs_of(job.plan) if ref.img_id not in failed), "IMG_ID")
    yield "look next:"
    yield f"  python -m beam_pipeline.inspect {output}"
    yield f"  python -m beam_pipeline.inspect {output} {shlex.quote(example)} --draw boxes.png"
    if "report" not in manifest["files"]:
        yield f"  python -m beam_pipeline.report {output}"
