"""Captions and given boxes: read into the catalog, and compared with the images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from beam_pipeline.preflight.flag_files import BOXES_LINES, read_file, refuse_other_kind
from beam_pipeline.progress.run_progress import show_count
from beam_pipeline.usage import UsageError
from region_features.formats.boxes import parse_boxes
from region_features.formats.captions import read_caption_file
from region_features.planning.catalog import BOXES, CAPTIONS, Catalog
from region_features.records.coco import CAPTIONS_FILE, TEST_SPLIT
from region_features.records.failure import Failure
from transforms import files
from transforms.input_files import HashingStream, PinnedFile


@dataclass(frozen=True)
class AnnotationInput:
    """A file that says something of images: captions or given boxes.

    Attributes:
        what: `captions` or `boxes`, as the catalog and the manifest have it.
        file: which, and what it holds.
        rows: number of its good rows, each of an image of its own.
        failures: its damaged rows.
    """

    what: str
    file: PinnedFile
    rows: int
    failures: tuple[Failure, ...]

    def describe(self, catalog: Catalog) -> dict[str, Any]:
        """Return its part of the manifest.

        Args:
            catalog: the images of the run, and what this file says.
        """
        return {
            "file": self.file.uri,
            "rows": self.rows,
            "failed_rows": len(self.failures),
            f"images_without_{self.what}": _counted(catalog.images_without(self.what)),
            f"{self.what}_without_images": _counted(catalog.without_images(self.what)),
        }


def _counted(img_ids: list[str]) -> dict[str, Any]:
    return {"count": len(img_ids), "img_ids": img_ids}


def catalog_captions(uri: str, catalog: Catalog) -> tuple[AnnotationInput, frozenset[int | str]]:
    """Read captions into a catalog; return what they are, and the coco ids of split test."""
    rows, failures, test_ids = 0, [], set[int | str]()
    with files.open_stream(uri) as stream:
        hashing = HashingStream(stream)
        for image in show_count(read_caption_file(hashing.read, uri), "reading captions", " rows"):
            if isinstance(image, Failure):
                failures.append(image)
                continue
            rows += 1
            catalog.add_captions(image)
            if image.split == TEST_SPLIT:
                test_ids.add(image.coco_id)
        hashing.drain()
    file = PinnedFile(uri, hashing.digest.hexdigest())
    return AnnotationInput(CAPTIONS, file, rows, tuple(failures)), frozenset(test_ids)


def refuse_damaged_captions(uri: str, usable: int, failures: Sequence[Failure], threshold: float) -> None:
    """Raise a UsageError where no row of the captions is usable, or more are damaged than the threshold allows."""
    rows = usable + len(failures)
    example = f"; {failures[0].reason}" if failures else ""
    if not usable:
        refuse_other_kind(uri, "--captions")
        raise UsageError(
            f"--captions {uri}: expected rows as in {CAPTIONS_FILE}, but none of {rows} is usable{example}"
        )
    if len(failures) / rows > threshold:
        raise UsageError(
            f"--captions {uri}: {len(failures)} of {rows} rows are damaged, more than --caption_threshold "
            f"{threshold:g} allows{example}"
        )


def match_captions(captions: AnnotationInput | None, catalog: Catalog, own_flag: bool) -> tuple[str, ...]:
    """Return a note where under half of the images have captions.

    Args:
        captions: what the catalog has captions of.
        catalog: the images, and their captions.
        own_flag: whether the user named the file; a corpus's own may say nothing of its images, as of test2015's.

    Raises:
        UsageError: no image at all has captions in the file that the user named.
    """
    if captions is None or not captions.rows:
        return ()
    match = catalog.match_captions()
    if match.matched * 2 >= match.images:
        return ()
    image, row = catalog.unmatched_examples()
    examples = f"an image is {image!r}" + (f", a row of the captions {row!r}" if row else "")
    if own_flag and not match.matched:
        raise UsageError(
            f"--captions {captions.file.uri}: expected captions of these images, but none of its {match.rows} rows has "
            f"the name of one of the {match.images} images: {examples}, for example; name the right file"
        )
    return (
        f"{captions.file.uri} has captions of {match.matched} of {match.images} images, in {match.rows} rows; without "
        f"a partner, {examples}, for example",
    )


def read_given_boxes(uri: str, catalog: Catalog) -> AnnotationInput:
    """Read the boxes that `--boxes` gives into a catalog; return what they are.

    Raises:
        UsageError: the file cannot be read, or none of its rows is usable.
    """
    data = read_file(files.read_bytes, uri, "--boxes")
    images, failures = parse_boxes(data, uri)
    if not images:
        refuse_other_kind(uri, "--boxes")
        got = failures[0].reason if failures else f"{uri}, with empty lines only"
        raise UsageError(f"--boxes: expected {BOXES_LINES}, got: {got}")
    for image in images:
        catalog.add_boxes(image)
    return AnnotationInput(BOXES, PinnedFile(uri, hashlib.sha256(data).hexdigest()), len(images), tuple(failures))
