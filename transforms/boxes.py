"""The boxes that a user gives for each image, read into the graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam

from region_features.records.given_boxes import GivenBoxes, parse_boxes
from transforms import files


def read_boxes(boxes_uri: str) -> Iterator[tuple[str, GivenBoxes]]:
    """(img_id, boxes) of every good line."""
    entries, _ = parse_boxes(files.read_bytes(boxes_uri), boxes_uri)
    for entry in entries:
        yield entry.img_id, entry


@dataclass
class ReadBoxes(beam.PTransform):
    """A pipeline -> (img_id, GivenBoxes) of the boxes file's good lines.

    Attributes:
        boxes_uri: the boxes file.
    """

    boxes_uri: str

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Read the file on a worker."""
        return pipeline | "BoxesFile" >> beam.Create([self.boxes_uri]) | "ReadLines" >> beam.FlatMap(read_boxes)
