"""What `--import` names: listed, named, given the sizes of its images, and checked for what the outputs need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from beam_pipeline.flags.config import Config
from beam_pipeline.usage import UsageError
from region_features.exports.base import Export, require_fields
from region_features.formats.image_sizes import read_image_sizes
from region_features.planning.catalog import Catalog
from region_features.records.failure import IMPORT_STAGE, Failure, ImageFailure
from region_features.records.plan import ImageRef
from region_features.records.region_record import ARRAY_FIELDS, RegionRecord
from region_features.sources.base import Source
from transforms import files
from transforms.imports import ImportListing, list_imports, read_imported_record, sized_uri

_REMEDY = "name a file of the sizes with --image_sizes, COCO's captions_val2014.json for one"


def read_imports(config: Config, catalog: Catalog, has_captions: bool) -> ImportListing:
    """List the records of imported files into a catalog, in which the captions are already.

    Ids that are only numbers get `--import_prefix`, or the names that the captions have for the numbers.

    Raises:
        UsageError: files that do not know their images' sizes come without `--image_sizes`, or none is in that file.
        ValueError: see `list_imports`; or the file of sizes is of no known schema.
        OSError: the file of sizes cannot be read.
    """
    listing = list_imports(config.import_files, catalog, config.import_prefix)
    if has_captions and not config.import_prefix:
        catalog.name_after_captions()
    failures = [*listing.failures]
    if listing.unsized:
        failures += _give_sizes(config.image_sizes, listing.unsized, catalog)
    return ImportListing(listing.notes, tuple(failures), listing.samples, listing.unsized)


def _give_sizes(path: str | None, unsized: Sequence[str], catalog: Catalog) -> Iterator[Failure]:
    """Put the images' sizes into the catalog; yield a failure for each image that has none."""
    if path is None:
        raise UsageError(f"--import {unsized[0]}: such files do not hold the sizes of their images; {_REMEDY}")
    with files.open_stream(path) as stream:
        dropped = catalog.give_sizes(read_image_sizes(stream.read, path), unsized, sized_uri)
    if not any(catalog.sets().values()):
        raise UsageError(f"--image_sizes {path}: expected sizes of the imported images, {dropped[0].img_id} for one")
    for ref in dropped:
        yield Failure(ref.uri, ref.img_id, IMPORT_STAGE, f"{path}: expected the size of this image, found none")


def sample_records(listing: ImportListing) -> dict[str, RegionRecord]:
    """Read a record with boxes of each kind of imported files, as far as one is soon found: URI -> record."""
    opened: dict[str, Source] = {}
    found = {}
    for refs in listing.samples.values():
        for ref in refs:
            record = _read(ref, opened)
            if record is not None and record.num_boxes:
                found[ref.uri] = record
                break
    return found


def _read(ref: ImageRef, opened: dict[str, Source]) -> RegionRecord | None:
    try:
        return read_imported_record(ref, opened)
    except ImageFailure:
        return None


def describe_missing(records: Mapping[str, RegionRecord]) -> Iterator[str]:
    """Say which arrays imported files lack, a line for each kind of file."""
    for uri, record in records.items():
        missing = [field.name for field in ARRAY_FIELDS if record.lacks(field.name)]
        if missing:
            yield f"imported records have no {', '.join(missing)}, {uri} for one: these arrays are empty in the outputs"


def refuse_lacking(exports: Sequence[Export], records: Mapping[str, RegionRecord]) -> None:
    """Refuse outputs that need arrays which the imported files lack.

    Raises:
        UsageError: names output, array and file.
    """
    for export in exports:
        for uri, record in records.items():
            try:
                require_fields(record, export.needs, uri, export.name)
            except ValueError as error:
                raise UsageError(str(error)) from error
