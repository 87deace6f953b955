"""Importing files in one process: listed, and read back as a run does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from region_features.exports.base import Export, Sources
from region_features.planning.catalog import Catalog
from region_features.records.key import lmdb_key
from region_features.records.plan import ImageRef
from region_features.records.region_record import RegionRecord
from tests.samples.exports import ignore
from tests.samples.records import write_shard
from transforms import files
from transforms.imports import ImportListing, list_imports, read_imported_record, sized_uri
from transforms.shards import read_shard

SETTINGS = {"min_boxes": 36, "max_boxes": 36, "conf_threshold": 0.2}


def write_export(folder: Path, export: Export, records: list[RegionRecord], set_name: str = "val2014") -> Path:
    """Build all targets of an export of one set below a folder, as they stand in an output; return the folder."""
    folder.mkdir(exist_ok=True)
    records = sorted(records, key=lambda record: lmdb_key(record.img_id))
    shard = write_shard(folder.parent / f"{folder.name}.shard", records)
    ids = tuple(record.img_id for record in records)
    sources = Sources(str(folder), {set_name: (shard,)}, len(files.read_bytes(shard)), read_shard, lambda path: ids)
    for target in export.targets([set_name], SETTINGS):
        place = folder / target.folder / target.contents
        place.mkdir(parents=True, exist_ok=True)
        export.build(target, sources, str(place), ignore)
    return folder


def import_all(
    *patterns: object, sizes: Mapping[str, tuple[int, int]] | None = None, prefix: str = "", names: Any = ()
) -> dict[str, RegionRecord]:
    """Read every record that patterns name, by id.

    Args:
        patterns: as `--import` takes them.
        sizes: id -> height and width, where the files hold none.
        prefix: as `--import_prefix`.
        names: the captions of the images.
    """
    catalog = Catalog()
    for captions in names:
        catalog.add_captions(captions)
    listing = list_imports([str(pattern) for pattern in patterns], catalog, prefix)
    assert listing.failures == ()
    if names:
        catalog.name_after_captions()
    if sizes is not None:
        rows = [(img_id, height, width) for img_id, (height, width) in sizes.items()]
        assert catalog.give_sizes(rows, listing.unsized, sized_uri) == []
    opened: dict[str, Any] = {}
    return {ref.img_id: read_imported_record(ref, opened) for ref in catalog.refs()}


def list_files(*patterns: object, prefix: str = "") -> tuple[ImportListing, list[ImageRef]]:
    """List files to import, and their images in order of set and key."""
    catalog = Catalog()
    listing = list_imports([str(pattern) for pattern in patterns], catalog, prefix)
    return listing, list(catalog.refs())
