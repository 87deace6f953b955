"""COCO's detection JSON, a file a set: boxes to browse with FiftyOne, pycocotools and their like."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from region_features.exports.base import Copy, Export, OnProgress, ShardImage, Sources, Target, require_fields
from region_features.formats.coco_json import (
    ANNOTATIONS,
    CATEGORIES,
    END,
    IMAGES,
    LineWriter,
    StoredLine,
    annotation_rows,
    category_rows,
    encode_rows,
    find_lines,
    image_row,
    read_rows,
)
from region_features.formats.example import ImageExample
from region_features.names import ClassNames, visual_genome
from region_features.records.build_note import BuildNote
from region_features.records.key import lmdb_key
from region_features.records.region_record import RegionRecord
from region_features.validation.record import Problem

_IMAGES_A_REPORT = 64


@dataclass(frozen=True)
class CocoJsonExport(Export):
    """`coco-json/val2014.json` and so on.

    An image's id is the number at the end of its name where all images of the set have one, else its place in the set,
    from 1. Categories have Visual Genome's names where the network has its classes.
    """

    name = "coco-json"
    needs = ("objects_id", "objects_conf")

    def targets(self, sets: Sequence[str], settings: Mapping[str, Any]) -> Iterator[Target]:
        """Name a file after its set."""
        for set_name in sets:
            name = f"{set_name}.json"
            yield Target(name, (set_name,), (name,), self.name)

    def build(self, target: Target, sources: Sources, folder: str, on_progress: OnProgress) -> dict[str, Any]:
        """Write the annotations while the rows of the images wait in a file of their own."""
        numbers = [_number(img_id) for path in sources.paths for img_id in sources.read_ids(path)]
        by_number = None not in numbers
        images, boxes, classes = 0, 0, 0
        names: ClassNames | None = None
        with (
            open(os.path.join(folder, target.name), "wb") as stream,
            tempfile.TemporaryFile(dir=folder) as rows,
        ):
            annotations, image_rows = LineWriter(stream), LineWriter(rows)
            annotations.begin(ANNOTATIONS)
            for shard, example in sources.examples(sources.paths):
                record = example.record
                require_fields(record, self.needs, shard, self.name)
                number = _number(record.img_id) if by_number else None
                image_id = images + 1 if number is None else number
                if record.num_boxes:
                    names = names or names_of(record)
                    annotations.write(encode_rows(annotation_rows(record, image_id, boxes + 1, names)))
                    classes = max(classes, record.cls_prob.shape[1] - 1, int(record.objects_id.max()) + 1)
                image_rows.write(encode_rows([image_row(example, image_id)]))
                images, boxes = images + 1, boxes + record.num_boxes
                if images % _IMAGES_A_REPORT == 0:
                    on_progress("images_written", images)
            annotations.begin(IMAGES)
            rows.seek(0)
            shutil.copyfileobj(rows, stream)
            stream.write(b"\n" if images else b"")
            categories = LineWriter(stream)
            categories.begin(CATEGORIES)
            for row in category_rows(len(names.objects) if names else classes, names):
                categories.write(encode_rows([row]))
            categories.begin(END)
        on_progress("images_written", images)
        return {"images": images, "boxes": boxes}

    def open(self, target: Target, folder: str, note: BuildNote) -> Copy:
        """Find the lines."""
        return _JsonCopy(os.path.join(folder, target.name), note.counts.get("boxes"))

    def describe(self, row: Mapping[str, Any]) -> str:
        """Say how many images and boxes it has."""
        return f"{row['boxes']} boxes of {row['images']} images"


def names_of(record: RegionRecord) -> ClassNames | None:
    """Return Visual Genome's names if the record's network has its classes, else None."""
    return visual_genome() if visual_genome().fit(record) else None


def _number(img_id: str) -> int | None:
    key = lmdb_key(img_id)
    return int(key) if key.isdigit() else None


class _JsonCopy(Copy):
    def __init__(self, path: str, boxes: int | None) -> None:
        self._path, self._boxes = path, boxes
        self._image_ids: dict[str, int] = {}  # file name -> id
        self._rows: dict[int, dict[str, Any]] = {}
        self._annotations: dict[int, StoredLine] = {}
        self._annotation_ids: list[tuple[int, int]] = []  # first id and number, of every image that was compared
        self._damaged: list[Problem] = []
        categories: list[dict[str, Any]] = []
        with open(path, "rb") as stream, open(path, "rb", buffering=0) as contents:
            for line in find_lines(stream, path):
                contents.seek(line.offset)
                rows = read_rows(contents.read(line.length), path)
                if line.section == IMAGES:
                    self._add_image(rows[0])
                elif line.section == CATEGORIES:
                    categories += rows
                else:
                    self._add_annotations(rows[0].get("image_id"), line)
        names = visual_genome() if categories == category_rows(len(visual_genome().objects), visual_genome()) else None
        if not names and categories != category_rows(len(categories), None):
            self._damage("expected categories from 1 with Visual Genome's names, or none, got others")
        self._names = names

    def _damage(self, message: str) -> None:
        self._damaged.append(Problem("coco-json", f"{self._path}: {message}"))

    def _add_image(self, row: dict[str, Any]) -> None:
        image_id, name = row.get("id"), row.get("file_name")
        if not isinstance(image_id, int) or not isinstance(name, str):
            self._damage(f"expected an image with a number as id and a file name, got {row}")
        elif image_id in self._rows or name in self._image_ids:
            self._damage(f"image {image_id}, {name}, comes a second time")
        else:
            self._rows[image_id], self._image_ids[name] = row, image_id

    def _add_annotations(self, image_id: Any, line: StoredLine) -> None:
        if not isinstance(image_id, int) or image_id in self._annotations:
            self._damage(f"expected one line of annotations an image, got another of image {image_id}")
        else:
            self._annotations[image_id] = line

    def check_example(self, example: ImageExample, shard: str) -> Iterator[Problem]:
        record = example.record
        image_id = self._image_ids.get(example.filename)
        if image_id is None:
            message = f"expected an image {example.filename} for {record.img_id} of {shard}, found none"
            yield Problem("coco-json", f"{self._path}: {message}")
            return
        where = f"{self._path}, image {record.img_id}: not that of {shard}"
        if self._rows[image_id] != image_row(example, image_id):
            yield Problem("coco-json", f"{where}: its row differs")
        stored: list[dict[str, Any]] = []
        if image_id in self._annotations:
            line = self._annotations[image_id]
            with open(self._path, "rb", buffering=0) as stream:
                stream.seek(line.offset)
                stored = read_rows(stream.read(line.length), self._path)
        first_id = stored[0].get("id") if stored else 0
        first_id = first_id if isinstance(first_id, int) else 0
        self._annotation_ids.append((first_id, len(stored)))
        expected = annotation_rows(record, image_id, first_id, self._names)
        if len(stored) != len(expected):
            yield Problem("coco-json", f"{where}: expected {len(expected)} annotations, got {len(stored)}")
        for left, right in zip(expected, stored, strict=False):
            if left != right:
                fields = [name for name in {**left, **right} if left.get(name) != right.get(name)]
                yield Problem("coco-json", f"{where}: {', '.join(fields)} of annotation {left['id']} differ")
                return

    def check_rest(self, images: Sequence[ShardImage], whole: bool) -> Iterator[Problem]:
        yield from self._damaged
        strangers = len(self._rows) - len(images)
        if strangers > 0 and whole:
            yield Problem("coco-json", f"{self._path}: {strangers} images are not in the shards")
        strange = self._annotations.keys() - self._rows.keys()
        if strange:
            yield Problem("coco-json", f"{self._path}: annotations of no image, {next(iter(strange))} for one")
        total = 0
        for first, count in sorted(entry for entry in self._annotation_ids if entry[1]) if whole else ():
            if first != total + 1:
                yield Problem("coco-json", f"{self._path}: expected annotations numbered from 1, got {first} next")
                return
            total += count
        if whole and self._boxes is not None and total != self._boxes:
            yield Problem("coco-json", f"{self._path}: expected {self._boxes} boxes (its note), got {total}")
