"""`python -m beam_pipeline.show OUT [IMG_ID]`: what an output folder holds, or one of its records, in words."""

from __future__ import annotations

import difflib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_pipeline.output_folder import OutputFolder, Shard, open_output
from beam_pipeline.usage import Parser, UsageError
from region_features.formats.example import ImageExample, decode_example
from region_features.formats.tfrecord import read_records
from region_features.lmdb_store.reader import DATA_FILE
from region_features.lmdb_store.value_codecs import VOLTA
from region_features.records.failure import Failure
from region_features.records.key import lmdb_key
from transforms import files

_REASONS_SHOWN = 10
_NEAR = 5


def describe_output(found: OutputFolder) -> Iterator[str]:
    """The whole folder, a line at a time."""
    manifest = found.manifest
    state = "the run has not ended (no manifest.json)"
    if manifest:
        counts = manifest["counts"]
        state = f"{manifest['status']}: {counts['written']} of {counts['in']} images written, {counts['failed']} failed"
    yield f"{found.paths.output}: {state}"
    if manifest and manifest.get("reason"):
        yield f"  reason: {manifest['reason']}"
    for name in _set_names(found):
        yield from _describe_set(found, name)
    failures = _read_failures(found)
    if failures:
        yield f"failures: {len(failures)}"
        reasons = Counter((failure.stage, failure.reason) for failure in failures)
        for (stage, reason), count in reasons.most_common(_REASONS_SHOWN):
            yield f"  {count} x {stage}: {reason}"
        if len(reasons) > _REASONS_SHOWN:
            yield f"  and {len(reasons) - _REASONS_SHOWN} other reasons; see failures.jsonl"
    settings = found.plan.settings if found.plan else (manifest or {}).get("settings", {})
    if settings:
        yield "settings:"
        yield from (f"  {name}: {value}" for name, value in settings.items())
    yield from _describe_files(found)
    if manifest and "captions" in manifest:
        captions = manifest["captions"]
        yield (
            f"captions: {captions['rows']} images in the captions file, "
            f"{captions['images_without_captions']['count']} images without captions, "
            f"{captions['captions_without_images']['count']} captions without image"
        )
    if manifest and "versions" in manifest:
        yield "versions: " + ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())


def _read_failures(found: OutputFolder) -> list[Failure]:
    """Those of failures.jsonl, which tells of damaged rows too; those of the shards while there is no such file."""
    path = found.paths.failures
    if found.manifest and "failures.jsonl" in files.list_folder(found.paths.output):
        try:
            return Failure.from_lines(files.read_bytes(path))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: expected a failure a line, got something else: {error}") from error
    return [failure for shard in found.shards.values() if shard.stats for failure in shard.stats.failures]


def _set_names(found: OutputFolder) -> list[str]:
    planned = [key.set_name for key in found.plan.shards] if found.plan else []
    return list(dict.fromkeys([*planned, *(shard.set_name for shard in found.shards.values())]))


def _describe_set(found: OutputFolder, name: str) -> Iterator[str]:
    shards = [shard for shard in found.shards.values() if shard.set_name == name]
    images = sum(len(shard.stats.ids) for shard in shards if shard.stats)
    failed = sum(len(shard.stats.failures) for shard in shards if shard.stats)
    planned = [key for key in found.plan.shards if key.set_name == name] if found.plan else []
    of_images = f" of {sum(key.num_images for key in planned)}" if planned else ""
    of_shards = f" of {len(planned)}" if planned else ""
    size = _size(sum(shard.num_bytes for shard in shards))
    yield f"set {name}: {images}{of_images} images, {failed} failed, {len(shards)}{of_shards} shards, {size}"


def _describe_files(found: OutputFolder) -> Iterator[str]:
    for name, size in sorted(files.list_folder(found.paths.annotations).items()):
        if not name.startswith(files.TEMP_PREFIX):
            yield f"annotations/{name}: {_size(size)}"
    listed = found.manifest["files"] if found.manifest else {}
    for name, row in listed.get("lmdb", {}).items():
        path = files.join(found.paths.lmdbs, name)
        yield f"{path}: {row['records']} records, {row.get('form', VOLTA)}, {_stored(path, DATA_FILE)}"
    for name, row in listed.get("tsv", {}).items():
        yield f"{files.join(found.paths.features, name)}: {row['rows']} rows, {_stored(found.paths.features, name)}"
    for name, row in listed.get("negatives", {}).items():
        yield f"{name}: {row['images']} x {row['columns']}, {_stored(found.paths.output, name)}"


def _stored(folder: str, name: str) -> str:
    size = files.list_folder(folder).get(name)
    return "listed in manifest.json, and not there" if size is None else _size(size)


def find_images(found: OutputFolder, name: str) -> list[tuple[Shard, str]]:
    """The images of this id; where there is none, those of this LMDB key; each with its shard.

    Raises:
        UsageError: there is none; names the nearest ids, or why the image failed.
    """
    ids = [(shard, img_id) for shard in found.shards.values() if shard.stats for img_id in shard.stats.ids]
    same = [entry for entry in ids if entry[1] == name] or [
        entry for entry in ids if lmdb_key(entry[1]) == name.encode(errors="replace")
    ]
    if same:
        return same
    for shard in found.shards.values():
        for failure in shard.stats.failures if shard.stats else ():
            if failure.img_id == name:
                raise UsageError(f"image {name} gave no record: {failure.stage}: {failure.reason} ({failure.uri})")
    near = difflib.get_close_matches(name, {img_id for _, img_id in ids}, n=_NEAR, cutoff=0.0)
    hint = f"the nearest are {', '.join(near)}" if near else "there are no images at all"
    raise UsageError(f"no image {name!r} among the {len(ids)} of {found.paths.output}; {hint}")


def read_image(found: OutputFolder, shard: Shard, img_id: str) -> ImageExample:
    """One image out of its shard.

    Raises:
        ValueError: the shard is damaged, or has no such image though its stats say so.
        OSError: the shard cannot be read.
    """
    path = files.join(found.paths.shards, shard.name)
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        for data in read_records(stream, path):
            example = decode_example(data, path)
            if example.record.img_id == img_id:
                return example
    raise ValueError(f"{path}: its stats name image {img_id}, and no record has it; run beam_pipeline.verify")


def describe_image(shard: Shard, example: ImageExample) -> Iterator[str]:
    """One image, a line at a time."""
    record = example.record
    yield f"{record.img_id} in {shard.name}"
    yield f"  file {example.filename}, sha256 {example.sha256 or 'not known'}"
    yield (
        f"  {record.img_w} x {record.img_h} pixels, LMDB key {lmdb_key(record.img_id).decode()}, "
        f"{record.num_boxes} boxes, features of width {record.features.shape[1]}"
    )
    if example.split:
        yield f"  split {example.split}, {len(example.captions)} captions"
        yield from (f"    {number}  {text}" for number, text in zip(example.caption_ids, example.captions, strict=True))
    else:
        yield "  no captions"
    yield f"{'box':>5}{'class':>7}{'conf':>7}{'attr':>6}{'conf':>7}{'x1':>9}{'y1':>9}{'x2':>9}{'y2':>9}{'norm':>9}"
    norms = np.linalg.norm(record.features.astype(np.float64), axis=1)
    for row in range(record.num_boxes):
        corners = "".join(f"{value:9.1f}" for value in record.boxes[row])
        yield (
            f"{row:5}{record.objects_id[row]:7}{record.objects_conf[row]:7.3f}{record.attrs_id[row]:6}"
            f"{record.attrs_conf[row]:7.3f}{corners}{norms[row]:9.3f}"
        )


def _size(count: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Returns:
        Exit status: 0, or 2 where there is no such output or image, or it cannot be read.
    """
    parser = Parser(
        prog="python -m beam_pipeline.show",
        description="Say what a run's output holds, or show one of its images: size, captions, a table of its boxes "
        "(class and attribute as numbers from 0, their confidences, pixels x1 y1 x2 y2, norm of the feature).",
    )
    parser.add_argument("output", metavar="OUT", help="the --output of a run, local or gs://")
    parser.add_argument("img_id", metavar="IMG_ID", nargs="?", help="an image's id (file stem) or LMDB key")
    try:
        args = parser.parse_args(argv)
        found = open_output(args.output)
        for problem in found.problems:
            print(f"inspect: {problem.message}", file=sys.stderr)
        if args.img_id is None:
            print("\n".join(describe_output(found)))
            return 0
        for shard, img_id in find_images(found, args.img_id):
            print("\n".join(describe_image(shard, read_image(found, shard, img_id))))
    except (UsageError, ValueError, OSError) as error:
        print(f"inspect: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
