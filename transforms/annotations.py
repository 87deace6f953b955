"""Karpathy's dataset_coco.json: parsed, joined with the images, written as caption files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from region_features.records.failure import Failure
from region_features.records.given_boxes import GivenBoxes, no_boxes
from region_features.records.item import CaptionedImage, ImageCaptions
from region_features.records.plan import ImageRef, ShardKey
from transforms import files

_SPLITS = ("train", "restval", "val", "test")
# Caption file -> the splits it holds, in their order in the file.
_FILES = {"train": ("train", "restval"), "valid": ("val",), "test": ("test",)}
_IMAGES, _CAPTIONS, _BOXES = "images", "captions", "boxes"


def parse_captions(data: bytes, source: str) -> tuple[list[ImageCaptions], list[Failure]]:
    """Read dataset_coco.json.

    Returns:
        The images in file order, and a Failure of stage `captions` for each row that is damaged.

    Raises:
        ValueError: the file as a whole is not of Karpathy's schema; the message names it.
    """
    try:
        rows = json.loads(data, object_hook=_drop_tokens)["images"]
        if not isinstance(rows, list):
            raise TypeError(f"'images' is a {type(rows).__name__}, not a list")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        got = "none of that name" if isinstance(error, KeyError) else error
        raise ValueError(
            f"{source}: expected Karpathy's dataset_coco.json, an object with a list 'images', got: {got}; "
            "take it from caption_datasets.zip"
        ) from error
    entries: dict[str, ImageCaptions] = {}
    failures = []
    for number, row in enumerate(rows):
        where = f"{source}, images[{number}]"
        try:
            entry = _parse_row(row)
            if entry.img_id in entries:
                raise ValueError("filename appears a second time")
            entries[entry.img_id] = entry
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            reason = f"{where}: missing field {error}" if isinstance(error, KeyError) else f"{where}: {error}"
            name = row.get("filename", "") if isinstance(row, dict) else ""
            failures.append(Failure(source, str(name).rpartition(".")[0], "captions", reason))
    return list(entries.values()), failures


def _drop_tokens(row: dict[str, Any]) -> dict[str, Any]:
    # Half of the file's memory, and nothing here reads them.
    row.pop("tokens", None)
    return row


def _parse_row(row: Any) -> ImageCaptions:
    filename, split, sentences = row["filename"], row["split"], row["sentences"]
    if split not in _SPLITS:
        raise ValueError(f"field split: expected one of {', '.join(_SPLITS)}, got {split!r}")
    if not isinstance(filename, str) or not filename.rpartition(".")[0]:
        raise ValueError(f"field filename: expected NAME.jpg, got {filename!r}")
    raw = tuple(sentence["raw"] for sentence in sentences)
    if not all(isinstance(text, str) for text in raw):
        raise ValueError("field raw: expected text")
    try:
        "".join((filename, *raw)).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"expected valid Unicode, got half a character ({error.reason})") from error
    ids = tuple(int(sentence["sentid"]) for sentence in sentences)
    if any(abs(number) >= 2**63 for number in ids):
        raise ValueError("field sentid: expected a 64-bit number")
    return ImageCaptions(filename.rpartition(".")[0], int(row["cocoid"]), split, raw, ids)


def parse_test1k_ids(data: bytes, source: str) -> frozenset[int]:
    """The coco ids of the 1K retrieval test set, one a line.

    Raises:
        ValueError: a line is no number; the message names file and line.
    """
    ids = []
    for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), start=1):
        try:
            ids.extend([int(line)] if line.strip() else [])
        except ValueError as error:
            raise ValueError(f"{source}, line {number}: expected one coco id, got {line!r}") from error
    return frozenset(ids)


def check_test1k_ids(ids: frozenset[int], entries: Iterable[ImageCaptions], source: str) -> None:
    """Check that the ids are a subset of split `test`.

    Raises:
        ValueError: one is not; the message names it.
    """
    strangers = ids - {entry.coco_id for entry in entries if entry.split == "test"}
    if strangers:
        raise ValueError(
            f"{source}: expected coco ids of split test, but {len(strangers)} are not in it, {min(strangers)} for one"
        )


def caption_files(entries: Sequence[ImageCaptions], test1k_ids: frozenset[int] | None) -> dict[str, Iterator[bytes]]:
    """Caption file names and their JSON lines, in the order of dataset_coco.json (train: all train, then restval)."""
    written = {f"{name}_ann.jsonl": _lines(entries, splits) for name, splits in _FILES.items()}
    if test1k_ids is not None:
        chosen = [entry for entry in entries if entry.coco_id in test1k_ids]
        written["test1k_ann.jsonl"] = _lines(chosen, _FILES["test"])
    return written


def _lines(entries: Sequence[ImageCaptions], splits: Sequence[str]) -> Iterator[bytes]:
    for split in splits:
        for entry in entries:
            if entry.split == split:
                row = {"sentences": entry.sentences, "id": entry.coco_id}
                yield (json.dumps(row, ensure_ascii=False) + "\n").encode()


def read_captions(captions_uri: str) -> Iterator[tuple[str, ImageCaptions]]:
    """(img_id, captions) of every good row."""
    entries, _ = parse_captions(files.read_bytes(captions_uri), captions_uri)
    for entry in entries:
        yield entry.img_id, entry


def write_caption_files(captions_uri: str, folder: str, test1k_uri: str | None) -> Iterator[tuple[str, int]]:
    """Publish the caption files.

    Returns:
        (file name, bytes) of each.
    """
    entries, _ = parse_captions(files.read_bytes(captions_uri), captions_uri)
    ids = parse_test1k_ids(files.read_bytes(test1k_uri), test1k_uri) if test1k_uri else None
    for name, lines in caption_files(entries, ids).items():
        yield name, files.publish_bytes(files.join(folder, name), lines)


def pair_up(
    element: tuple[str, dict[str, Iterable[Any]]],
) -> Iterator[tuple[tuple[str, int, int, int], CaptionedImage]]:
    """(shard, image with captions) for every image that shares an img_id; captions without an image give nothing.

    Where boxes are joined too, an image that has none gets a GivenBoxes that says so.
    """
    img_id, groups = element
    captions: ImageCaptions | None = next(iter(groups[_CAPTIONS]), None)
    boxes: GivenBoxes | None = next(iter(groups[_BOXES]), no_boxes(img_id)) if _BOXES in groups else None
    images: Iterable[tuple[ShardKey, ImageRef]] = groups[_IMAGES]
    for shard, ref in images:
        # A plain tuple has a deterministic coder, a NamedTuple has not.
        yield (shard.set_name, shard.number, shard.of, shard.num_images), CaptionedImage(ref, captions, boxes)


@dataclass
class JoinAnnotations(beam.PTransform):
    """(img_id, (shard, image)) and the captions file -> (shard, images with captions): ids only, no pixels.

    Attributes:
        captions_uri: dataset_coco.json, None where there is none.
        boxes: PCollection of (img_id, GivenBoxes), to be joined likewise; None where the network proposes its own.
    """

    captions_uri: str | None
    boxes: beam.PCollection | None = None

    def expand(self, images: beam.PCollection) -> beam.PCollection:
        """Join on img_id, group by shard."""
        captions = images.pipeline | "CaptionsFile" >> beam.Create([self.captions_uri] if self.captions_uri else [])
        captions = captions | "ReadCaptions" >> beam.FlatMap(read_captions)  # (img_id, ImageCaptions)
        given = {} if self.boxes is None else {_BOXES: self.boxes}
        return (
            {_IMAGES: images, _CAPTIONS: captions, **given}
            | "JoinOnImgId" >> beam.CoGroupByKey()
            | "PairUp" >> beam.FlatMap(pair_up)  # (shard, CaptionedImage)
            | "GroupByShard" >> beam.GroupByKey()  # (shard, [CaptionedImage])
        )


@dataclass
class WriteCaptionFiles(beam.PTransform):
    """dataset_coco.json's URI -> (file name, bytes) of the caption files, published in `folder`.

    Attributes:
        folder: where they go.
        test1k_uri: the ids of the 1K test set, None for no such file.
    """

    folder: str
    test1k_uri: str | None

    def expand(self, captions_uris: beam.PCollection) -> beam.PCollection:
        """Write each file."""
        return captions_uris | "WriteFiles" >> beam.FlatMap(
            write_caption_files, folder=self.folder, test1k_uri=self.test1k_uri
        )
