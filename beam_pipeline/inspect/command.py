"""`python -m beam_pipeline.inspect OUT [IMG_ID]`: what an output folder holds, or one of its records, in words."""

from __future__ import annotations

import difflib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from beam_pipeline.class_names import choose_names
from beam_pipeline.flags.types import path
from beam_pipeline.inspect.draw import DrawRequest, draw_image
from beam_pipeline.preflight.output_folder import OutputFolder, PublishedShard, open_output
from beam_pipeline.progress.summary import describe_exports, describe_health, readable_size
from beam_pipeline.usage import Parser, UsageError, one_line, printable
from region_features.formats.example import ImageExample, decode_example
from region_features.names import ClassNames
from region_features.records.failure import Failure
from region_features.records.key import lmdb_key
from region_features.records.region_record import RegionRecord
from transforms import files
from transforms.manifest import FAILURES
from transforms.shards import read_shard

_REASONS_SHOWN = 10
_NEAREST_SHOWN = 5


def describe_output(folder: OutputFolder) -> Iterator[str]:
    """Describe the whole folder, a line at a time."""
    manifest = folder.manifest
    state = "the run has not ended (no manifest.json)"
    if manifest:
        counts = manifest["counts"]
        state = f"{manifest['status']}: {counts['written']} of {counts['in']} images written, {counts['failed']} failed"
    yield f"{folder.layout.output}: {state}"
    if manifest and manifest.get("reason"):
        yield f"  reason: {manifest['reason']}"
    for name in _set_names(folder):
        yield _describe_set(folder, name)
    failures = _read_failures(folder)
    if failures:
        yield f"failures: {len(failures)}"
        reasons = Counter((failure.stage, failure.reason) for failure in failures)
        for (stage, reason), count in reasons.most_common(_REASONS_SHOWN):
            yield f"  {count} x {stage}: {reason}"
        if len(reasons) > _REASONS_SHOWN:
            yield f"  and {len(reasons) - _REASONS_SHOWN} other reasons; see {FAILURES}"
    settings = folder.plan.settings if folder.plan else (manifest or {}).get("settings", {})
    if settings:
        yield "settings:"
        yield from (f"  {name}: {value}" for name, value in settings.items())
    for name, size in sorted(files.list_folder(folder.layout.annotations).items()):
        if not name.startswith(files.TEMP_PREFIX):
            yield f"annotations/{name}: {readable_size(size)}"
    if manifest:
        yield from describe_exports(manifest, folder.layout)
        yield from describe_health(manifest)
    if manifest and "captions" in manifest:
        captions = manifest["captions"]
        yield (
            f"captions: {captions['rows']} images in the captions file, "
            f"{captions['images_without_captions']['count']} images without captions, "
            f"{captions['captions_without_images']['count']} captions without image"
        )
    if manifest and "versions" in manifest:
        yield "versions: " + ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())


def _read_failures(folder: OutputFolder) -> list[Failure]:
    """Read failures.jsonl, which names damaged rows too; the shards' failures while there is no such file."""
    path = folder.layout.failures
    if folder.manifest and FAILURES in files.list_folder(folder.layout.output):
        try:
            return Failure.from_lines(files.read_bytes(path))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: expected a failure a line, got something else: {error}") from error
    return [failure for shard in folder.shards.values() if shard.stats for failure in shard.stats.failures]


def _set_names(folder: OutputFolder) -> list[str]:
    planned = folder.plan.set_names if folder.plan else []
    return list(dict.fromkeys([*planned, *(shard.set_name for shard in folder.shards.values())]))


def _describe_set(folder: OutputFolder, name: str) -> str:
    shards = [shard for shard in folder.shards.values() if shard.set_name == name]
    images = sum(len(shard.stats.ids) for shard in shards if shard.stats)
    failed = sum(len(shard.stats.failures) for shard in shards if shard.stats)
    planned = [key for key in folder.plan.shards if key.set_name == name] if folder.plan else []
    of_images = f" of {sum(key.num_images for key in planned)}" if planned else ""
    of_shards = f" of {len(planned)}" if planned else ""
    size = readable_size(sum(shard.num_bytes for shard in shards))
    return f"set {name}: {images}{of_images} images, {failed} failed, {len(shards)}{of_shards} shards, {size}"


def find_images(folder: OutputFolder, name: str) -> list[tuple[PublishedShard, str]]:
    """Find the images of an id or else of an LMDB key, each with its shard.

    Raises:
        UsageError: there is none; names the nearest ids, or why the image failed.
    """
    ids = [(shard, img_id) for shard in folder.shards.values() if shard.stats for img_id in shard.stats.ids]
    matches = [entry for entry in ids if entry[1] == name] or [
        entry for entry in ids if lmdb_key(entry[1]) == name.encode(errors="replace")
    ]
    if matches:
        return matches
    for shard in folder.shards.values():
        for failure in shard.stats.failures if shard.stats else ():
            if failure.img_id == name:
                raise UsageError(f"image {name} gave no record: {failure.stage}: {failure.reason} ({failure.uri})")
    nearest = difflib.get_close_matches(name, {img_id for _, img_id in ids}, n=_NEAREST_SHOWN, cutoff=0.0)
    hint = f"the nearest are {', '.join(nearest)}" if nearest else "there are no images at all"
    raise UsageError(f"no image {name!r} among the {len(ids)} of {folder.layout.output}; {hint}")


def read_image(folder: OutputFolder, shard: PublishedShard, img_id: str) -> ImageExample:
    """Read one image out of its shard.

    Raises:
        ValueError: the shard is damaged, or has no such image though its stats say so.
        OSError: the shard cannot be read.
    """
    path = files.join(folder.layout.shards, shard.name)
    for data in read_shard(path):
        example = decode_example(data, path)
        if example.record.img_id == img_id:
            return example
    raise ValueError(f"{path}: its stats name image {img_id}, and no record has it; run beam_pipeline.verify")


def describe_image(shard: PublishedShard, example: ImageExample, names: ClassNames | None) -> Iterator[str]:
    """Describe one image, a line at a time; with the names of its classes where they are known."""
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
    columns = "".join(f"{name:>9}" for name in ("x1", "y1", "x2", "y2", "norm"))
    yield f"{'box':>5}{'class':>7}{'conf':>7}{'attr':>6}{'conf':>7}{columns}{'  names' if names else ''}"
    told = [
        _cells(record, name, form)
        for name, form in (
            ("objects_id", "{:7}"),
            ("objects_conf", "{:7.3f}"),
            ("attrs_id", "{:6}"),
            ("attrs_conf", "{:7.3f}"),
        )
    ]
    norms = np.linalg.norm(record.features.astype(np.float64), axis=1)
    for row in range(record.num_boxes):
        corners = "".join(f"{value:9.1f}" for value in record.boxes[row])
        yield (
            f"{row:5}{''.join(cells[row] for cells in told)}{corners}{norms[row]:9.3f}"
            f"{f'  {names.describe(record, row)}' if names else ''}"
        )


def _cells(record: RegionRecord, name: str, form: str) -> list[str]:
    """Format an array for a column of the table, a dash where the record lacks it."""
    if record.lacks(name):
        return ["-".rjust(len(form.format(0)))] * record.num_boxes
    return [form.format(value) for value in getattr(record, name)]


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Returns:
        Exit status: 0, or 2 where there is no such output or image, or it cannot be read.
    """
    parser = _parser()
    try:
        args = parser.parse_args(argv)
        request = DrawRequest(args.draw, args.image, args.top, args.min_confidence) if args.draw else None
        for flag, value in (("--image", args.image), ("--top", args.top), ("--min_confidence", args.min_confidence)):
            if value and not args.draw:
                raise UsageError(f"{flag}: expected --draw FILE beside it, the picture to write")
        if args.draw and args.img_id is None:
            raise UsageError("--draw: expected the image to draw; give its IMG_ID after OUT")
        folder = open_output(args.output)
        for problem in folder.problems:
            print(f"inspect: {one_line(problem.message)}", file=sys.stderr)
        if args.img_id is None:
            print("\n".join(map(printable, describe_output(folder))))
            return 0
        matches = find_images(folder, args.img_id)
        for shard, img_id in matches:
            example = read_image(folder, shard, img_id)
            names = choose_names(folder, example.record, args.names)
            print("\n".join(map(printable, describe_image(shard, example, names))))
            if request:
                own = request.of_set(shard.set_name) if len(matches) > 1 else request
                print(draw_image(folder, shard, example, names, own))
    except BrokenPipeError:
        raise
    except (UsageError, ValueError, OSError) as error:
        print(f"inspect: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m beam_pipeline.inspect",
        description="Say what a run's output holds, or show one of its images: size, captions, a table of its boxes "
        "(class and attribute as numbers from 0, their confidences, pixels x1 y1 x2 y2, norm of the feature, names), "
        "and a picture of them.",
    )
    parser.add_argument("output", metavar="OUT", type=path, help="the --output of a run, local or gs://")
    parser.add_argument("img_id", metavar="IMG_ID", nargs="?", help="an image's id (file stem) or LMDB key")
    parser.add_argument(
        "--names",
        metavar="FILE",
        help="names of the object classes, one a line in the order of their numbers, aliases after commas; by default "
        "Visual Genome's for bottom-up attention, and detectron2's own for its networks",
    )
    parser.add_argument(
        "--draw",
        metavar="FILE",
        help="draw the image with its boxes, attributes, objects and confidences into this .png or .jpg, local or "
        "gs://; if several sets have such an image, into FILE-SET.png",
    )
    parser.add_argument("--image", metavar="FILE", help="with --draw: the image, where it is not found by its URI")
    parser.add_argument("--top", metavar="N", type=int, help="with --draw: only the N most confident boxes")
    parser.add_argument(
        "--min_confidence",
        metavar="P",
        type=float,
        default=0.0,
        help="with --draw: only boxes whose object has at least this confidence",
    )
    return parser
