"""The table of exports, and the outputs that `--outputs` names."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from region_features.exports.base import Export
from region_features.exports.butd_vqa import ButdVqaExport
from region_features.exports.coco_json import CocoJsonExport
from region_features.exports.hard_negatives import HardNegativesExport
from region_features.exports.imagecaptioning import ImageCaptioningExport
from region_features.exports.imagecaptioning_files import ImageCaptioningFilesExport
from region_features.exports.lmdb import LmdbExport
from region_features.exports.m2 import M2Export
from region_features.exports.mmf import MmfExport
from region_features.exports.openvqa import OpenVqaExport
from region_features.exports.parquet import ParquetExport
from region_features.exports.report import ReportExport
from region_features.exports.tsv import TsvExport
from region_features.exports.tsv6 import Tsv6Export
from region_features.exports.uniter import UniterExport
from region_features.exports.webdataset import WebDatasetExport

# What is built from whole shards. A new format is a file in region_features/exports and a line here.
EXPORTS: tuple[type[Export], ...] = (
    LmdbExport,
    TsvExport,
    Tsv6Export,
    M2Export,
    MmfExport,
    OpenVqaExport,
    ImageCaptioningExport,
    ImageCaptioningFilesExport,
    UniterExport,
    ButdVqaExport,
    HardNegativesExport,
    WebDatasetExport,
    ParquetExport,
    CocoJsonExport,
    ReportExport,
)
SHARDS, CAPTIONS = "tfrecord", "captions"
EXPORT_NAMES = tuple(dict.fromkeys(export.name for export in EXPORTS))
OUTPUTS = (SHARDS, CAPTIONS, *EXPORT_NAMES)
DEFAULT_OUTPUTS = (SHARDS, CAPTIONS, LmdbExport.name)


def requested_exports(outputs: Sequence[str], flags: Any) -> tuple[Export, ...]:
    """Make the exports that the user asked for.

    Args:
        outputs: names, of OUTPUTS.
        flags: holds every export's fields as attributes of the same names, as `options.Config` does.
    """
    exports = (
        export(**{field.name: getattr(flags, field.name) for field in dataclasses.fields(export)})  # type: ignore[arg-type]
        for export in EXPORTS
        if export.name in outputs
    )
    return tuple(export for export in exports if export.requested)
