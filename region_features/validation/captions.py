"""Checks of the caption files against the captions in the shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import NamedTuple

from region_features.formats.annotations import AnnotationRows
from region_features.records import coco
from region_features.records.key import lmdb_key
from region_features.validation.record import Problem


class CaptionedId(NamedTuple):
    """An image with captions: its shard, id, split, and the digest of its sentences."""

    shard: str
    img_id: str
    split: str
    digest: bytes


def check_captions(images: Iterable[CaptionedId], caption_files: Mapping[str, AnnotationRows]) -> Iterator[Problem]:
    """Compare the captions in the shards with those in the caption files, and these files with each other.

    Args:
        images: the shards' images that have captions; those whose caption file is not given are skipped.
        caption_files: the caption files by name, as far as they exist.
    """
    digests = {name: {digest for _, digest in rows.values()} for name, rows in caption_files.items()}
    lines: dict[str, list[tuple[int, str]]] = {split: [] for split in coco.ANNOTATION_OF_SPLIT}
    for image in images:
        name = coco.ANNOTATION_OF_SPLIT.get(image.split, image.split) + coco.ANNOTATION_SUFFIX
        if name not in caption_files:
            continue
        rows = caption_files[name]
        number, digest = rows.get(image.img_id) or rows.get(_coco_id(image.img_id), (0, b""))
        if digest == image.digest:
            lines.setdefault(image.split, []).append((number, image.img_id))
            continue
        # File names outside COCO need not contain the coco id: any row with the same sentences will do.
        if not coco.is_coco_id(image.img_id) and image.digest in digests[name]:
            continue
        where = f"image {image.img_id} of split {image.split} ({image.shard})"
        if number:
            yield Problem("captions", f"{name}, line {number}: other sentences than the shard has for {where}")
        else:
            yield Problem("captions", f"{name}: expected a line for {where}, found none")
    first_restval, last_train = min(lines["restval"], default=None), max(lines["train"], default=None)
    if first_restval and last_train and first_restval[0] < last_train[0]:
        (line, img_id), (_, train_id) = first_restval, last_train
        message = f"restval image {img_id} stands before train image {train_id}; all of train comes first"
        yield Problem("captions", f"train{coco.ANNOTATION_SUFFIX}, line {line}: {message}")
    yield from _check_overlaps(caption_files)


def _check_overlaps(caption_files: Mapping[str, AnnotationRows]) -> Iterator[Problem]:
    """Compare the files' ids: no two splits share an image, and the 1K test set is part of the test split."""
    for first, second in combinations([name for name in coco.annotation_files() if name in caption_files], 2):
        for coco_id in sorted(caption_files[first].keys() & caption_files[second].keys(), key=str):
            yield Problem("captions", f"{first} and {second}: both have id {coco_id}")
    test1k, test = (name + coco.ANNOTATION_SUFFIX for name in (coco.TEST1K_ANNOTATION, coco.TEST_SPLIT))
    if test1k in caption_files and test in caption_files:
        for coco_id, (number, digest) in caption_files[test1k].items():
            if coco_id not in caption_files[test]:
                yield Problem("captions", f"{test1k}, line {number}: id {coco_id} is not in {test}")
            elif caption_files[test][coco_id][1] != digest:
                yield Problem("captions", f"{test1k}, line {number}: other sentences than {test} has")


def _coco_id(img_id: str) -> int:
    key = lmdb_key(img_id)
    return int(key) if key.isdigit() else -1  # of no row
