"""Room on the disk of an output: said before a run that may lack it, and when it has run out."""

from __future__ import annotations

from collections.abc import Iterator

from beam_pipeline.full_disk import describe_full_temporary, free_bytes, is_full_database, is_full_disk
from beam_pipeline.preflight.job import Job
from beam_pipeline.progress.summary import readable_size
from transforms import files

_BOX_BYTES = 4 * (2048 + 1601 + 401 + 4 + 4)  # a record's numbers of one box: the real network's


def room_notes(job: Job) -> Iterator[str]:
    """Warn where the shards that are to be made may not fit on the disk of a local output."""
    if files.is_remote(job.layout.output) or not job.work.to_make:
        return
    needed, free = needed_bytes(job), free_bytes(job.layout.output)
    if needed > free:
        images = job.plan.num_images - job.done.images
        yield (
            f"{job.layout.output}: about {readable_size(needed)} are needed for the shards of {images:,} images, and "
            f"{readable_size(free)} are free; make room, or the run ends when the disk is full"
        )


def describe_full_disk(error: BaseException, job: Job) -> str | None:
    """Say which disk is full, what is needed and what is free; None for any other error."""
    if is_full_database(error):
        return describe_full_temporary()
    if files.is_remote(job.layout.output) or not is_full_disk(error):
        return None
    free = readable_size(free_bytes(job.layout.output))
    return (
        f"the disk of {job.layout.output} is full ({' '.join(str(error).split())[:200]}): all shards take about "
        f"{readable_size(needed_bytes(job) + job.done.num_bytes)}, each of the other outputs up to as much again, and "
        f"{free} are free; make room"
    )


def needed_bytes(job: Job) -> int:
    """Estimate the bytes of the shards that are not there, by those that are, else by the real network's records."""
    done = job.done
    each = done.num_bytes / done.images if done.images else job.config.max_boxes * _BOX_BYTES
    return int(each * (job.plan.num_images - done.images))
