"""What can be wrong with the caption files, held against the captions that the shards carry."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from region_features.records.key import lmdb_key
from region_features.validation.record import Problem

# Karpathy's split -> the caption file that holds it.
FILE_OF_SPLIT = {"train": "train", "restval": "train", "val": "valid", "test": "test"}
_SUFFIX = "_ann.jsonl"
_TEST1K = "test1k_ann.jsonl"
# Only COCO's file names are known to carry the id under which the captions stand.
COCO_STEM = re.compile(r"COCO_[^_]+_\d{12}")


class CaptionedId(NamedTuple):
    """An image of a shard: its file, id, split, and the digest of its sentences."""

    shard: str
    img_id: str
    split: str
    digest: bytes


@dataclass(frozen=True)
class CaptionFile:
    """A caption file: per coco id, its place in the file and the digest of its sentences."""

    name: str
    rows: Mapping[int, tuple[int, bytes]]


def caption_digest(sentences: Sequence[str]) -> bytes:
    """A short digest of an image's sentences, so that a corpus fits into memory."""
    text = json.dumps(list(sentences)).encode()
    return hashlib.blake2b(text, digest_size=16).digest()


def read_caption_file(data: bytes, name: str) -> tuple[CaptionFile, list[Problem]]:
    """Reads JSON lines `{"sentences": [...], "id": cocoid}`.

    Args:
        data: the file's content.
        name: its base name, for messages too.
    """
    rows: dict[int, tuple[int, bytes]] = {}
    problems = []
    for number, line in enumerate(data.removesuffix(b"\n").split(b"\n") if data else (), start=1):
        try:
            row = json.loads(line)
            coco_id, sentences = row["id"], row["sentences"]
            if type(coco_id) is not int or not all(isinstance(text, str) for text in sentences):
                raise TypeError("wrong types")
        except (ValueError, KeyError, TypeError):
            expected = 'expected {"sentences": [...], "id": number}'
            problems.append(Problem("captions", f"{name}, line {number}: {expected}, got {line[:60]!r}"))
            continue
        if coco_id in rows:
            problems.append(Problem("captions", f"{name}, line {number}: id {coco_id} comes a second time"))
        else:
            rows[coco_id] = (number, caption_digest(sentences))
    return CaptionFile(name, rows), problems


def check_captions(images: Iterable[CaptionedId], caption_files: Collection[CaptionFile]) -> Iterator[Problem]:
    """Compares the captions in the shards with those in the files, as far as files are there.

    Args:
        images: the shards' images that carry captions.
        caption_files: the files that were read.
    """
    by_name = {file.name: file for file in caption_files}
    digests: dict[str, set[bytes]] = {}
    last_train: tuple[int, str] = (0, "")
    restval: list[tuple[int, str]] = []
    for image in images:
        file = by_name.get(FILE_OF_SPLIT.get(image.split, image.split) + _SUFFIX)
        if file is None:
            continue
        row = file.rows.get(_coco_id(image.img_id))
        if row is not None and row[1] == image.digest:
            if image.split == "train":
                last_train = max(last_train, (row[0], image.img_id))
            elif image.split == "restval":
                restval.append((row[0], image.img_id))
            continue
        if not COCO_STEM.fullmatch(image.img_id):
            if file.name not in digests:
                digests[file.name] = {digest for _, digest in file.rows.values()}
            if image.digest in digests[file.name]:
                continue
        where = f"image {image.img_id} of split {image.split} ({image.shard})"
        if row is not None:
            yield Problem("captions", f"{file.name}, line {row[0]}: other sentences than the shard has for {where}")
        else:
            yield Problem("captions", f"{file.name}: expected a line for {where}, found none")
    for number, img_id in sorted(restval):
        if number < last_train[0]:
            message = f"restval image {img_id} stands before train image {last_train[1]}; all of train comes first"
            yield Problem("captions", f"train{_SUFFIX}, line {number}: {message}")
            break
    yield from _check_overlaps(by_name)


def _check_overlaps(by_name: Mapping[str, CaptionFile]) -> Iterator[Problem]:
    disjoint = [by_name[name + _SUFFIX] for name in ("train", "valid", "test") if name + _SUFFIX in by_name]
    for index, one in enumerate(disjoint):
        for other in disjoint[index + 1 :]:
            for coco_id in sorted(one.rows.keys() & other.rows.keys()):
                yield Problem("captions", f"{one.name} and {other.name}: both have id {coco_id}")
    chosen, test = by_name.get(_TEST1K), by_name.get(f"test{_SUFFIX}")
    if chosen and test:
        for coco_id, (number, digest) in chosen.rows.items():
            if coco_id not in test.rows:
                yield Problem("captions", f"{chosen.name}, line {number}: id {coco_id} is not in {test.name}")
            elif test.rows[coco_id][1] != digest:
                yield Problem("captions", f"{chosen.name}, line {number}: other sentences than {test.name} has")


def _coco_id(img_id: str) -> int:
    key = lmdb_key(img_id)
    return int(key) if key.isdigit() else -1
