"""The caption files `train_ann.jsonl`, `valid_ann.jsonl`, `test_ann.jsonl` and `test1k_ann.jsonl`.

A line is `{"sentences": [...], "id": COCO_ID}`, as VOLTA reads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence

from region_features.records.coco import ANNOTATION_SUFFIX, TEST1K_ANNOTATION, TEST_SPLIT, annotation_files
from region_features.records.item import ImageCaptions

# Coco id -> (line number, digest of the sentences).
AnnotationRows = dict[int, tuple[int, bytes]]


def caption_digest(sentences: Sequence[str]) -> bytes:
    """Return a short digest of an image's sentences; the digests of all of COCO fit into memory."""
    text = json.dumps(list(sentences)).encode()
    return hashlib.blake2b(text, digest_size=16).digest()


def encode_annotation_files(
    images: Sequence[ImageCaptions], test1k_ids: frozenset[int] | None
) -> dict[str, Iterator[bytes]]:
    """Return the lines of each annotation file, each split in the order of `images`; `train` comes before `restval`.

    Args:
        images: the captions of dataset_coco.json, in file order.
        test1k_ids: coco ids of the 1K test set; None to leave out its file.
    """
    lines = {name: _encode_lines(images, splits) for name, splits in annotation_files().items()}
    if test1k_ids is not None:
        test1k_images = [image for image in images if image.coco_id in test1k_ids]
        lines[TEST1K_ANNOTATION + ANNOTATION_SUFFIX] = _encode_lines(test1k_images, (TEST_SPLIT,))
    return lines


def _encode_lines(images: Sequence[ImageCaptions], splits: Sequence[str]) -> Iterator[bytes]:
    for split in splits:
        for image in images:
            if image.split == split:
                row = {"sentences": image.sentences, "id": image.coco_id}
                yield (json.dumps(row, ensure_ascii=False) + "\n").encode()


def decode_annotation_file(data: bytes, name: str) -> tuple[AnnotationRows, list[str]]:
    """Return the rows of the annotation file `name`, and a message for each bad or repeated line."""
    rows: AnnotationRows = {}
    problems = []
    for number, line in enumerate(data.removesuffix(b"\n").split(b"\n") if data else (), start=1):
        try:
            row = json.loads(line)
            coco_id, sentences = row["id"], row["sentences"]
            if type(coco_id) is not int or not all(isinstance(text, str) for text in sentences):
                raise TypeError("wrong types")
        except (ValueError, KeyError, TypeError):
            expected = 'expected {"sentences": [...], "id": number}'
            problems.append(f"{name}, line {number}: {expected}, got {line[:60]!r}")
            continue
        if coco_id in rows:
            problems.append(f"{name}, line {number}: id {coco_id} comes a second time")
        else:
            rows[coco_id] = (number, caption_digest(sentences))
    return rows, problems
