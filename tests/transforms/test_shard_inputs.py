"""What the workers read of each shard: its images with their captions and given boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline
from apache_beam.testing.util import assert_that, equal_to

from beam_pipeline.preflight.reuse import ShardWork
from region_features.planning.catalog import Catalog
from region_features.planning.shard_inputs import ShardEntry
from region_features.records.given_boxes import GivenBoxes, no_boxes
from region_features.records.item import ImageCaptions
from region_features.records.plan import ImageRef, Plan, ShardKey
from tests.samples.plans import catalog_of
from transforms.plans import choose_cut, make_plan
from transforms.shard_inputs import InputFiles, ReadShardInputs, list_copies, list_shards, read_images

STEM = "COCO_val2014_00000000000"


def publish(folder: Path, catalog: Catalog, todo: list[int], with_boxes: bool = False, of: int = 2) -> InputFiles:
    """Publish the inputs of some shards of a catalog."""
    cut = choose_cut(catalog, of, None)
    names = [key.filename for key in make_plan({}, catalog.refs(), cut).shards]
    inputs = InputFiles(str(folder / "shards"), str(folder / "images"))
    ShardWork(catalog, cut, frozenset(names[number] for number in todo), {}, None, with_boxes).publish(inputs)
    return inputs


def told(element: tuple[Any, Any]) -> tuple[Any, list[tuple[Any, ...]]]:
    shard, images = element
    return shard, [(image.ref.img_id, image.captions and image.captions.coco_id, image.boxes) for image in images]


def test_captions_meet_their_images_by_id_and_lie_by_shard(tmp_path: Path) -> None:
    catalog = catalog_of(
        [
            ImageRef("val2014", f"{STEM}2", "c", 1),
            ImageRef("val2014", f"{STEM}1", "a", 1),
            ImageRef("val2014", "stranger", "b", 1),
            ImageRef("copy", f"{STEM}1", "d", 1),
        ]
    )
    for coco_id in (1, 2, 9):
        catalog.add_captions(ImageCaptions(f"{STEM}{coco_id}", coco_id, "val", ("A café \u2028.", "b"), (coco_id, 7)))
    inputs = publish(tmp_path, catalog, [0, 1, 2])
    expected = [
        (("copy", 0, 1, 1), [(f"{STEM}1", 1, None)]),
        (("val2014", 0, 2, 1), [(f"{STEM}1", 1, None)]),
        (("val2014", 1, 2, 2), [(f"{STEM}2", 2, None), ("stranger", None, None)]),
    ]
    with Pipeline() as pipeline:
        assert_that(pipeline | ReadShardInputs(inputs) | beam.Map(told), equal_to(expected))


def test_only_the_shards_to_do_are_read(tmp_path: Path) -> None:
    catalog = catalog_of([ImageRef("photos", name, f"{name}.jpg", 1) for name in "abcde"])
    with Pipeline() as pipeline:
        shards = pipeline | ReadShardInputs(publish(tmp_path, catalog, [1]))
        assert_that(shards | beam.Map(told), equal_to([(("photos", 1, 2, 3), [(name, None, None) for name in "cde"])]))


def test_images_come_as_the_catalog_has_them(tmp_path: Path) -> None:
    ref = ImageRef("photos", "a", "gs://b/pho tos/\u2028a.jpg", 12, "1.5")
    captions = ImageCaptions("a", 7, "restval", ("x", "y"), (70, 71))
    boxes = GivenBoxes("a", np.array([[0.1, 2, 3, 4]], np.float32))
    catalog = catalog_of([ref, ImageRef("photos", "b", "b.jpg", 1), ImageRef("photos", "c", "c.jpg", 1)])
    catalog.add_captions(captions)
    catalog.add_boxes(boxes)
    catalog.add_boxes(no_boxes("c", "box 0: bad"))
    inputs = publish(tmp_path, catalog, [0], with_boxes=True, of=1)
    [(shard, entry)] = list_shards(inputs.entries)
    [(_, (first, second, third))] = read_images((shard, iter([entry])), inputs.images)
    assert first.ref == next(catalog.refs()) and first.ref.captions and first.ref.boxes
    assert (first.captions, first.earlier) == (captions, None)
    assert first.boxes and second.boxes and third.boxes
    np.testing.assert_array_equal(first.boxes.boxes, boxes.boxes, strict=True)
    assert (second.captions, second.boxes.problem, third.boxes.problem) == (None, "no boxes given", "box 0: bad")


def test_an_entry_comes_back_from_its_line(tmp_path: Path) -> None:
    entry = ShardEntry(ShardKey("new\nline", 3, 10, 256), 5, 7, "old/x.tfrecord", "digest")
    assert ShardEntry.from_line(entry.to_line()) == entry
    (tmp_path / "shards").write_bytes(entry.to_line())
    assert list(list_copies(str(tmp_path / "shards"))) == [(tuple(entry.key), entry)]


@pytest.mark.parametrize(("count", "kept"), [(1, "a"), (2, "ad"), (4, "acde"), (9, "abcde")])
def test_images_are_left_out_evenly(count: int, kept: str) -> None:
    catalog = catalog_of([ImageRef("photos", name, f"{name}.jpg", 1) for name in "edcba"])
    catalog.keep_evenly(count)
    assert "".join(ref.img_id for ref in catalog.refs()) == kept
    assert make_plan({"a": 1}, catalog.refs(), choose_cut(catalog, None, Plan({}, {}))).num_images == len(kept)
