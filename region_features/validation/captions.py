"""Checks of the caption files against the captions in the shards."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import combinations
from typing import NamedTuple

from region_features.formats.annotations import AnnotationFile
from region_features.records.coco import (
    ANNOTATION_OF_SPLIT,
    ANNOTATION_SUFFIX,
    TEST1K_ANNOTATION,
    TEST_SPLIT,
    annotation_files,
    is_coco_id,
)
from region_features.records.key import lmdb_key
from region_features.validation.record import Problem


class CaptionedId(NamedTuple):
    """An image with captions: its shard, id, split, and the digest of its sentences."""

    shard: str
    img_id: str
    split: str
    digest: bytes


def check_captions(images: Iterable[CaptionedId], caption_files: Collection[AnnotationFile]) -> Iterator[Problem]:
    """Compare the captions in the shards with those in the caption files, and these files with each other.

    Args:
        images: the shards' images that have captions; those whose caption file is not given are skipped.
        caption_files: the caption files, as far as they exist.
    """
    by_name = {file.name: file for file in caption_files}
    digests = {file.name: {digest for _, digest in file.rows.values()} for file in caption_files}
    lines: dict[str, list[tuple[int, str]]] = {split: [] for split in ANNOTATION_OF_SPLIT}
    for image in images:
        file = by_name.get(ANNOTATION_OF_SPLIT.get(image.split, image.split) + ANNOTATION_SUFFIX)
        if file is None:
            continue
        number, digest = file.rows.get(_coco_id(image.img_id), (0, b""))
        if digest == image.digest:
            lines.setdefault(image.split, []).append((number, image.img_id))
            continue
        # File names outside COCO need not contain the coco id: any row with the same sentences will do.
        if not is_coco_id(image.img_id) and image.digest in digests[file.name]:
            continue
        where = f"image {image.img_id} of split {image.split} ({image.shard})"
        if number:
            yield Problem("captions", f"{file.name}, line {number}: other sentences than the shard has for {where}")
        else:
            yield Problem("captions", f"{file.name}: expected a line for {where}, found none")
    first_restval, last_train = min(lines["restval"], default=None), max(lines["train"], default=None)
    if first_restval and last_train and first_restval[0] < last_train[0]:
        (line, img_id), (_, train_id) = first_restval, last_train
        message = f"restval image {img_id} stands before train image {train_id}; all of train comes first"
        yield Problem("captions", f"train{ANNOTATION_SUFFIX}, line {line}: {message}")
    yield from _check_overlaps(by_name)


def _check_overlaps(by_name: Mapping[str, AnnotationFile]) -> Iterator[Problem]:
    """Compare the files' ids: no two splits share an image, and the 1K test set is part of the test split."""
    for first, second in combinations([by_name[name] for name in annotation_files() if name in by_name], 2):
        for coco_id in sorted(first.rows.keys() & second.rows.keys()):
            yield Problem("captions", f"{first.name} and {second.name}: both have id {coco_id}")
    test1k, test = (by_name.get(name + ANNOTATION_SUFFIX) for name in (TEST1K_ANNOTATION, TEST_SPLIT))
    if test1k and test:
        for coco_id, (number, digest) in test1k.rows.items():
            if coco_id not in test.rows:
                yield Problem("captions", f"{test1k.name}, line {number}: id {coco_id} is not in {test.name}")
            elif test.rows[coco_id][1] != digest:
                yield Problem("captions", f"{test1k.name}, line {number}: other sentences than {test.name} has")


def _coco_id(img_id: str) -> int:
    """Return the number at the end of a file stem, -1 if there is none."""
    key = lmdb_key(img_id)
    return int(key) if key.isdigit() else -1
