"""One pass over a shard: checksums, records, and the same records in the exports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from beam_pipeline.preflight.output_folder import PublishedShard
from region_features.exports.base import Copy
from region_features.formats.annotations import caption_digest
from region_features.formats.example import ImageExample, decode_example
from region_features.formats.tfrecord import read_records
from region_features.validation.captions import CaptionedId
from region_features.validation.record import Problem, check_record
from transforms import files
from transforms.input_files import HashingStream


@dataclass
class ShardReport:
    """What one shard holds and what is wrong with it.

    Attributes:
        shard: file name.
        set_name: its set.
        whole: whether all of it could be read.
        ids: of its records, in order.
        widths: each feature width D that occurs -> an image that has it.
        captioned: the images with captions.
        uncaptioned: ids of the images without.
        problems: in the order in which they were found.
    """

    shard: str
    set_name: str
    whole: bool = True
    ids: list[str] = field(default_factory=list)
    widths: dict[int, str] = field(default_factory=dict)
    captioned: list[CaptionedId] = field(default_factory=list)
    uncaptioned: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def verify_shard(shard: PublishedShard, path: str, copies: Sequence[Copy], max_boxes: int | None) -> ShardReport:
    """Read a shard once and check everything in it.

    Args:
        shard: which.
        path: where it stands.
        copies: exports that must hold its records too.
        max_boxes: most boxes that an image may have, None where that is not known.
    """
    report = ShardReport(shard.name, shard.set_name)
    try:
        with files.open_stream(path) as stream:
            hashing = HashingStream(stream)
            try:
                for data in read_records(hashing, shard.name):
                    example = decode_example(data, shard.name)
                    _add_image(example, report)
                    report.problems.extend(check_record(example.record, shard.name, max_boxes))
                    for copy in copies:
                        report.problems.extend(copy.check_example(example, shard.name))
            except ValueError as error:
                report.whole = False
                report.problems.append(Problem("shard", str(error)))
                hashing.drain()
    except OSError as error:
        report.whole = False
        report.problems.append(Problem("shard", f"{shard.name}: cannot be read: {error}"))
        return report
    report.problems.extend(_check_stats(shard, report, hashing.num_bytes, hashing.digest.hexdigest()))
    return report


def _add_image(example: ImageExample, report: ShardReport) -> None:
    record = example.record
    report.ids.append(record.img_id)
    if record.num_boxes:
        report.widths.setdefault(record.features.shape[1], record.img_id)
    if example.split:
        digest = caption_digest(example.captions)
        report.captioned.append(CaptionedId(report.shard, record.img_id, example.split, digest))
    else:
        report.uncaptioned.append(record.img_id)


def _check_stats(shard: PublishedShard, report: ShardReport, num_bytes: int, sha256: str) -> Iterator[Problem]:
    stats = shard.stats
    if stats is None:
        return
    if num_bytes != stats.num_bytes:
        yield Problem("shard", f"{shard.name}: expected {stats.num_bytes} bytes as its stats say, got {num_bytes}")
    elif sha256 != stats.sha256:
        remedy = "the run's command with --check_shards makes it again"
        yield Problem("shard", f"{shard.name}: expected sha256 {stats.sha256} as its stats say, got {sha256}; {remedy}")
    if report.whole and tuple(report.ids) != stats.ids:
        extra, missing = set(report.ids) - set(stats.ids), set(stats.ids) - set(report.ids)
        example = f"; {min(extra | missing)} for one" if extra | missing else ""
        yield Problem(
            "shard",
            f"{shard.name}: expected the {len(stats.ids)} images of its stats, got {len(report.ids)} records: "
            f"{len(missing)} are missing, {len(extra)} are strange{example}",
        )
