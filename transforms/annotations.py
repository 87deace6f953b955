"""Captions and given boxes: joined with the images, and written as annotation files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from region_features.formats.annotations import encode_annotation_files
from region_features.formats.boxes import parse_boxes
from region_features.formats.karpathy import parse_dataset, parse_test1k_ids
from region_features.records.given_boxes import GivenBoxes, no_boxes
from region_features.records.item import CaptionedImage, ImageCaptions
from region_features.records.plan import ImageRef, ShardKey
from transforms import files
from transforms.input_files import PinnedFile

_IMAGES, _CAPTIONS, _BOXES = "images", "captions", "boxes"


def read_captions(captions: PinnedFile) -> Iterator[tuple[str, ImageCaptions]]:
    """Yield (img_id, captions) of every good row of dataset_coco.json, in file order; raises as `PinnedFile.read`."""
    images, _ = parse_dataset(captions.read(), captions.uri)
    for image in images:
        yield image.img_id, image


def read_given_boxes(boxes: PinnedFile) -> Iterator[tuple[str, GivenBoxes]]:
    """Yield (img_id, boxes) of every good line of a file of given boxes; raises as `PinnedFile.read`."""
    images, _ = parse_boxes(boxes.read(), boxes.uri)
    for image in images:
        yield image.img_id, image


def pair_up(
    element: tuple[str, dict[str, Iterable[Any]]],
) -> Iterator[tuple[tuple[str, int, int, int], CaptionedImage]]:
    """Yield (shard, annotated image) for every image of an img_id; captions and boxes without an image are dropped.

    If boxes are joined, an image without boxes gets a GivenBoxes with that problem.
    """
    img_id, groups = element
    captions: ImageCaptions | None = next(iter(groups[_CAPTIONS]), None)
    boxes: GivenBoxes | None = next(iter(groups[_BOXES]), no_boxes(img_id)) if _BOXES in groups else None
    images: Iterable[tuple[ShardKey, ImageRef]] = groups[_IMAGES]
    for shard, ref in images:
        # Beam has a deterministic coder for a plain tuple, which grouping needs, but none for a NamedTuple.
        yield (shard.set_name, shard.number, shard.of, shard.num_images), CaptionedImage(ref, captions, boxes)


@dataclass
class JoinAnnotations(beam.PTransform):
    """Join images with their captions and given boxes: (img_id, (shard, image)) -> (shard, [CaptionedImage]).

    Only ids, captions and boxes are shuffled, no pixels.

    Attributes:
        captions: dataset_coco.json; None for images without captions.
        given_boxes: the file of given boxes; None for the network's own proposals.
    """

    captions: PinnedFile | None
    given_boxes: PinnedFile | None = None

    def expand(self, images: beam.PCollection) -> beam.PCollection:
        """Join on img_id, group by shard."""
        joined = {
            _IMAGES: images,
            _CAPTIONS: images.pipeline
            | "CaptionsFile" >> beam.Create([self.captions] if self.captions else [])
            | "ReadCaptions" >> beam.FlatMap(read_captions),  # (img_id, ImageCaptions)
        }
        if self.given_boxes:
            joined[_BOXES] = (
                images.pipeline
                | "BoxesFile" >> beam.Create([self.given_boxes])
                | "ReadGivenBoxes" >> beam.FlatMap(read_given_boxes)  # (img_id, GivenBoxes)
            )
        return (
            joined
            | "JoinOnImgId" >> beam.CoGroupByKey()
            | "PairUp" >> beam.FlatMap(pair_up)  # (shard, CaptionedImage)
            | "GroupByShard" >> beam.GroupByKey()  # (shard, [CaptionedImage])
        )


def write_annotation_files(
    captions: PinnedFile, folder: str, test1k: PinnedFile | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Publish the annotation files in `folder`; yield the name of each with its bytes and SHA-256."""
    images, _ = parse_dataset(captions.read(), captions.uri)
    test1k_ids = parse_test1k_ids(test1k.read(), test1k.uri) if test1k else None
    for name, lines in encode_annotation_files(images, test1k_ids).items():
        data = b"".join(lines)
        files.publish_bytes(files.join(folder, name), [data])
        yield name, files.digest_of_bytes(data)


@dataclass
class WriteAnnotationFiles(beam.PTransform):
    """Files dataset_coco.json -> (name, bytes and SHA-256) of the annotation files.

    Attributes:
        folder: where the files go.
        test1k: ids of the 1K test set; None to leave out its file.
    """

    folder: str
    test1k: PinnedFile | None

    def expand(self, captions: beam.PCollection) -> beam.PCollection:
        """Write the files."""
        return captions | "WriteFiles" >> beam.FlatMap(write_annotation_files, self.folder, self.test1k)
