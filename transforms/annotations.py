"""Captions: read from the file that was checked, and written as annotation files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from region_features.formats.annotations import encode_annotation_files
from region_features.formats.captions import read_caption_file
from region_features.formats.karpathy import parse_test1k_ids
from region_features.records.item import ImageCaptions
from transforms import files
from transforms.input_files import PinnedFile


def read_captions(captions: PinnedFile) -> Iterator[ImageCaptions]:
    """Yield the captions of every good row of a captions file, in its order; raises as `PinnedFile.open`."""
    with captions.open() as stream:
        for image in read_caption_file(stream.read, captions.uri):
            if isinstance(image, ImageCaptions):
                yield image


def write_annotation_files(
    captions: PinnedFile, folder: str, test1k: PinnedFile | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Publish the annotation files in `folder`; yield the name of each with its bytes and SHA-256."""
    test1k_ids = parse_test1k_ids(test1k.read(), test1k.uri) if test1k else None
    for name, chunks in encode_annotation_files(read_captions(captions), test1k_ids):
        path = files.join(folder, name)
        files.publish_bytes(path, chunks)
        yield name, files.digest_of(path)


@dataclass
class WriteAnnotationFiles(beam.PTransform):
    """Captions files -> (name, bytes and SHA-256) of the annotation files.

    Attributes:
        folder: where the files go.
        test1k: ids of the 1K test set; None to leave out its file.
    """

    folder: str
    test1k: PinnedFile | None

    def expand(self, captions: beam.PCollection) -> beam.PCollection:
        """Write the files."""
        return captions | "WriteFiles" >> beam.FlatMap(write_annotation_files, self.folder, self.test1k)
