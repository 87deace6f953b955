"""What the flags name, read and checked before any work starts."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import repeat
from typing import Any

from beam_pipeline.flags.config import Config
from beam_pipeline.flags.worker_paths import Workers, path_for
from beam_pipeline.preflight.annotations import (
    AnnotationInput,
    catalog_captions,
    match_captions,
    read_given_boxes,
    refuse_damaged_captions,
)
from beam_pipeline.preflight.flag_files import read_file
from beam_pipeline.preflight.imported import describe_missing, read_imports, sample_records
from beam_pipeline.progress.run_progress import show_count
from beam_pipeline.usage import UsageError
from region_features.download.http import shown
from region_features.formats.karpathy import check_test1k_ids, parse_test1k_ids
from region_features.planning.catalog import BOXES, Catalog
from region_features.records.coco import CAPTIONS_FILE, TEST1K_FILE
from region_features.records.detector_config import DetectorConfig
from region_features.records.failure import Failure
from region_features.records.plan import ImageRef
from region_features.records.region_record import RegionRecord
from region_features.records.settings import FLOAT32
from transforms import files
from transforms.detection import WeightsFacts, check_weights, read_detector_config
from transforms.input_files import PinnedFile
from transforms.listing import Listing, corpus_folders, list_images

# Raised whenever the same input and settings give other bytes.
RECORD_VERSION = 1


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
    described, test_ids = read_file(partial(catalog_captions, catalog=catalog), captions, "--captions")
    refuse_damaged_captions(captions, described.rows, described.failures, config.caption_threshold)
    test1k = None
    if test1k_ids:
        id_list = read_file(files.read_bytes, test1k_ids, "--test1k_ids")
        parse = partial(parse_test1k_ids, id_list)
        check_test1k_ids(read_file(parse, test1k_ids, "--test1k_ids"), test_ids, test1k_ids)
        test1k = PinnedFile(test1k_ids, hashlib.sha256(id_list).hexdigest())
    return Inputs(catalog, described, test1k)


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
        detector = read_file(read_detector_config, config.detector_config, "--detector_config")
    given_boxes = read_given_boxes(config.given_boxes, catalog) if config.given_boxes else None
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
    unmatched = match_captions(captions.captions, catalog, config.captions is not None)
    if config.limit:
        catalog.keep_evenly(config.limit)
    weights = None
    if config.weights and not config.dry_run:
        weights = read_file(partial(check_weights, config=detector), config.weights, "--weights")
    images = replace(images, notes=(*images.notes, *unmatched))
    return Inputs(catalog, captions.captions, captions.test1k_ids, images, weights, detector, given_boxes, samples)
