"""What the flags name, read and checked before any work starts."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import repeat
from typing import Any, TypeVar

from beam_pipeline.flags.config import Config
from beam_pipeline.flags.worker_paths import Workers, path_for
from beam_pipeline.full_disk import is_full_disk
from beam_pipeline.preflight.imported import describe_missing, read_imports, sample_records
from beam_pipeline.progress.run_progress import show_count
from beam_pipeline.usage import UsageError
from region_features.download.http import shown
from region_features.formats.boxes import parse_boxes
from region_features.formats.captions import read_caption_file
from region_features.formats.file_kind import HEAD_BYTES, kind_of_no_text
from region_features.formats.karpathy import check_test1k_ids, parse_test1k_ids
from region_features.planning.catalog import BOXES, CAPTIONS, Catalog
from region_features.records.coco import CAPTIONS_FILE, TEST1K_FILE, TEST_SPLIT
from region_features.records.detector_config import DetectorConfig
from region_features.records.failure import Failure
from region_features.records.plan import ImageRef
from region_features.records.region_record import RegionRecord
from region_features.records.settings import FLOAT32
from transforms import files
from transforms.detection import WeightsFacts, check_weights, read_detector_config
from transforms.input_files import HashingStream, PinnedFile
from transforms.listing import Listing, corpus_folders, list_images

# Raised whenever the same input and settings give other bytes.
RECORD_VERSION = 1
T = TypeVar("T")
# What the files hold that are text.
_TEXTS = {
    "--captions": f"captions: {CAPTIONS_FILE}, COCO's captions_*.json, or JSON lines of img_id and sentences",
    "--test1k_ids": "coco ids, one a line",
    "--boxes": 'lines {"img_id": ..., "boxes": [[x1, y1, x2, y2], ...]}',
    "--detector_config": "a detectron2 config in YAML",
}


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


@dataclass(frozen=True)
class Inputs:
    """The inputs of a run that writes shards, and of captions; empty where nothing is named.

    Attributes:
        captions: the captions.
        test1k_ids: the file of the 1K test set's ids.
        catalog: the images that are detected or imported, with what the captions and boxes say of them.
        images: what else is to be said of the images.
        weights: the network's weights.
        detector: the config of another network than bottom-up attention's.
        given_boxes: boxes to describe in place of the network's own.
        samples: URI -> record, one of each kind of imported files.
    """

    catalog: Catalog
    captions: AnnotationInput | None = None
    test1k_ids: PinnedFile | None = None
    images: Listing = field(default_factory=Listing)
    weights: WeightsFacts | None = None
    detector: DetectorConfig | None = None
    given_boxes: AnnotationInput | None = None
    samples: Mapping[str, RegionRecord] = field(default_factory=dict)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Damaged rows of the captions and boxes files, and of imported ones."""
        described = (*_failures(self.captions), *_failures(self.given_boxes))
        return (*described, *self.images.failures)

    def settings(self, config: Config) -> dict[str, Any]:
        """Return everything that decides the records' bytes; what is not used is left out."""
        optional = {
            "precision": None if config.precision == FLOAT32 else config.precision,
            "boxes_sha256": self.given_boxes.file.sha256 if self.given_boxes else None,
            "detector_config_sha256": self.detector.sha256 if self.detector else None,
            "exif": config.exif,
            "imported": config.imports,
        }
        return {
            "weights_sha256": self.weights.sha256 if self.weights else None,
            "captions_sha256": self.captions.file.sha256 if self.captions else None,
            "min_boxes": config.min_boxes,
            "max_boxes": config.max_boxes,
            "conf_threshold": config.conf_threshold,
            "pixel_limit": config.pixel_limit,
            "record_version": RECORD_VERSION,
            **{name: value for name, value in optional.items() if value},
        }

    def notes(self, config: Config) -> tuple[str, ...]:
        """Return what the user should know before the run."""
        notes = [*self.images.notes]
        if self.given_boxes:
            missing, total = len(self.catalog.images_without(BOXES)), sum(self.catalog.sets().values())
            if missing:
                where = f"no boxes in {self.given_boxes.file.uri} and will be failures"
                notes.append(f"{missing} of {total} images have {where}")
        if self.weights and not self.weights.attributes:
            notes.append(
                f"{shown(config.weights or '')} has no attribute head: attrs, attrs_id and attrs_conf are zeros"
            )
        return tuple(notes)


def _failures(source: AnnotationInput | None) -> tuple[Failure, ...]:
    return source.failures if source else ()


def read_captions(config: Config) -> Inputs:
    """Read the captions file, the user's own or the corpus's, and the ids of the 1K test set.

    Raises:
        UsageError: one is missing or cannot be read.
        ValueError: one is not of its schema.
    """
    captions, test1k_ids = config.captions, config.test1k_ids
    if config.corpus:
        present = files.list_folder(config.corpus)
        if not present and not files.is_remote(config.corpus) and not os.path.isdir(config.corpus):
            got = "a file" if os.path.exists(config.corpus) else "nothing"
            raise UsageError(f"--corpus {config.corpus}: expected a folder, found {got}; check the path")
        if captions is None and CAPTIONS_FILE not in present:
            raise UsageError(
                f"--corpus {config.corpus}: expected {CAPTIONS_FILE} in it, found none; "
                "name it with --captions, or use --images"
            )
        captions = captions or files.join(config.corpus, CAPTIONS_FILE)
        if test1k_ids is None and TEST1K_FILE in present:
            test1k_ids = files.join(config.corpus, TEST1K_FILE)
    catalog = Catalog()
    if captions is None:
        if test1k_ids:
            raise UsageError(f"--test1k_ids: expected --captions FILE beside it; name {CAPTIONS_FILE}")
        return Inputs(catalog)
    described, test_ids = _read(partial(_catalog_captions, catalog=catalog), captions, "--captions")
    _refuse_damaged_captions(captions, described.rows, described.failures, config.caption_threshold)
    test1k = None
    if test1k_ids:
        id_list = _read(files.read_bytes, test1k_ids, "--test1k_ids")
        parse = partial(parse_test1k_ids, id_list)
        check_test1k_ids(_read(parse, test1k_ids, "--test1k_ids"), test_ids, test1k_ids)
        test1k = PinnedFile(test1k_ids, hashlib.sha256(id_list).hexdigest())
    return Inputs(catalog, described, test1k)


def _catalog_captions(uri: str, catalog: Catalog) -> tuple[AnnotationInput, frozenset[int | str]]:
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


def _refuse_damaged_captions(uri: str, usable: int, failures: Sequence[Failure], threshold: float) -> None:
    rows = usable + len(failures)
    example = f"; {failures[0].reason}" if failures else ""
    if not usable:
        _refuse_other_kind(uri, "--captions")
        raise UsageError(
            f"--captions {uri}: expected rows as in {CAPTIONS_FILE}, but none of {rows} is usable{example}"
        )
    if len(failures) / rows > threshold:
        raise UsageError(
            f"--captions {uri}: {len(failures)} of {rows} rows are damaged, more than --caption_threshold "
            f"{threshold:g} allows{example}"
        )


def read_inputs(config: Config, captions: Inputs, workers: Workers = Workers.HERE) -> Inputs:
    """Read everything else that the flags name.

    Args:
        config: what the user asked for.
        captions: what `read_captions` returned.
        workers: where they look for the images, those of lists too.

    Raises:
        UsageError: a file cannot be read, or two images cannot be told apart.
        ValueError: a file is not of its schema; one line.
    """
    catalog = captions.catalog
    detector = None
    if config.detector_config:
        detector = _read(read_detector_config, config.detector_config, "--detector_config")
    given_boxes = _read_given_boxes(config.given_boxes, catalog) if config.given_boxes else None
    images: Listing
    samples: dict[str, RegionRecord] = {}
    if config.imports:
        imported = read_imports(config, catalog, captions.captions is not None)
        samples |= sample_records(imported)
        images = Listing((*imported.notes, *describe_missing(samples)), imported.failures)
    else:
        with contextlib.closing(show_count(repeat(None), "listing", " images")) as ticks:

            def add(place: str, ref: ImageRef) -> bool:
                next(ticks)
                uri = path_for(workers, ref.uri, "--images")
                return catalog.add_image(place, ref if uri == ref.uri else ref._replace(uri=uri))

            sources = corpus_folders(config.corpus) if config.corpus else config.images
            images = list_images(sources, add, config.recursive, config.output)
    clash = catalog.find_clash()
    if clash:
        raise UsageError(clash.describe())
    unmatched = _match_captions(captions.captions, catalog, config.captions is not None)
    if config.limit:
        catalog.keep_evenly(config.limit)
    weights = None
    if config.weights and not config.dry_run:
        weights = _read(partial(check_weights, config=detector), config.weights, "--weights")
    images = replace(images, notes=(*images.notes, *unmatched))
    return Inputs(catalog, captions.captions, captions.test1k_ids, images, weights, detector, given_boxes, samples)


def _match_captions(captions: AnnotationInput | None, catalog: Catalog, own_flag: bool) -> tuple[str, ...]:
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


def _read_given_boxes(uri: str, catalog: Catalog) -> AnnotationInput:
    data = _read(files.read_bytes, uri, "--boxes")
    images, failures = parse_boxes(data, uri)
    if not images:
        _refuse_other_kind(uri, "--boxes")
        got = failures[0].reason if failures else f"{uri}, with empty lines only"
        raise UsageError(f"--boxes: expected {_TEXTS['--boxes']}, got: {got}")
    for image in images:
        catalog.add_boxes(image)
    return AnnotationInput(BOXES, PinnedFile(uri, hashlib.sha256(data).hexdigest()), len(images), tuple(failures))


def _read(action: Callable[[str], T], path: str, flag: str) -> T:
    try:
        return action(path)
    except OSError as error:
        if is_full_disk(error):
            raise
        reason = error.strerror or str(error)
        raise UsageError(f"{flag} {shown(path)}: expected a readable file, got: {reason}; check the path") from error
    except ValueError as error:
        _refuse_other_kind(path, flag)
        raise UsageError(f"{flag} {error}" if str(error).startswith(shown(path)) else f"{flag}: {error}") from error


def _refuse_other_kind(path: str, flag: str) -> None:
    """Say what kind of file came in place of text, where that is plain; a decoder's words do not tell."""
    if flag not in _TEXTS:
        return
    kind = None
    with contextlib.suppress(OSError), files.open_stream(path) as stream:
        kind = kind_of_no_text(stream.read(HEAD_BYTES))
    if kind:
        raise UsageError(f"{flag} {path}: expected {_TEXTS[flag]}, got {kind}; name another file")
