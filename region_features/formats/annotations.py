"""The caption files `train_ann.jsonl`, `valid_ann.jsonl`, `test_ann.jsonl` and `test1k_ann.jsonl`.

A line is `{"sentences": [...], "id": COCO_ID}`, as VOLTA reads it; for an image that is none of COCO's
`{"sentences": [...], "id": STEM, "img_path": FILE_NAME}`, as VOLTA reads Flickr30k's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

from region_features.records.coco import (
    ANNOTATION_OF_SPLIT,
    ANNOTATION_SUFFIX,
    TEST1K_ANNOTATION,
    TEST_SPLIT,
    annotation_files,
)
from region_features.records.item import ImageCaptions
from region_features.records.json_text import parse_json

_CHUNK = 1 << 20
# Coco id, or file stem -> (line number, digest of the sentences).
AnnotationRows = dict[int | str, tuple[int, bytes]]


def caption_digest(sentences: Sequence[str]) -> bytes:
    """Return a short digest of an image's sentences; the digests of all of COCO fit into memory."""
    text = json.dumps(list(sentences)).encode()
    return hashlib.blake2b(text, digest_size=16).digest()


def encode_annotation_files(
    images: Iterable[ImageCaptions], test1k_ids: frozenset[int] | None
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield name and content of each annotation file, each split in the order of `images`; `train` before `restval`.

    The lines wait in temporary files, so that memory stays flat.

    Args:
        images: the captions of a captions file, in its order.
        test1k_ids: coco ids of the 1K test set; None to leave out its file.
    """
    parts = {split: [split] for split in ANNOTATION_OF_SPLIT}
    files = annotation_files()
    if test1k_ids is not None:
        parts[TEST_SPLIT].append(TEST1K_ANNOTATION)
        files[TEST1K_ANNOTATION + ANNOTATION_SUFFIX] = [TEST1K_ANNOTATION]
    with contextlib.ExitStack() as stack:
        names = dict.fromkeys(name for part in parts.values() for name in part)
        spools = {name: stack.enter_context(tempfile.TemporaryFile()) for name in names}
        for image in images:
            row: dict[str, Any] = {"sentences": image.sentences, "id": image.coco_id}
            if image.filename:
                row["img_path"] = image.filename
            line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
            for name in parts[image.split]:
                if name != TEST1K_ANNOTATION or image.coco_id in (test1k_ids or ()):
                    spools[name].write(line)
        for name, splits in files.items():
            yield name, _contents(spools[split] for split in splits)


def _contents(streams: Iterable[BinaryIO]) -> Iterator[bytes]:
    for stream in streams:
        stream.seek(0)
        while chunk := stream.read(_CHUNK):
            yield chunk


def decode_annotation_file(data: bytes, name: str) -> tuple[AnnotationRows, list[str]]:
    """Return the rows of the annotation file `name`, and a message for each bad or repeated line."""
    rows: AnnotationRows = {}
    problems = []
    for number, line in enumerate(data.removesuffix(b"\n").split(b"\n") if data else (), start=1):
        try:
            row = parse_json(line)
            coco_id, sentences = row["id"], row["sentences"]
            if type(coco_id) not in (int, str) or not all(isinstance(text, str) for text in sentences):
                raise TypeError("wrong types")
        except (ValueError, KeyError, TypeError):
            expected = 'expected {"sentences": [...], "id": number or name}'
            problems.append(f"{name}, line {number}: {expected}, got {line[:60]!r}")
            continue
        if coco_id in rows:
            problems.append(f"{name}, line {number}: id {coco_id} comes a second time")
        else:
            rows[coco_id] = (number, caption_digest(sentences))
    return rows, problems
