"""Import records that other programs computed: files of features in place of images.

The URI of an imported record is `PATH#PLACE`: `FILE#line=..&offset=..&length=..` for a TSV row, `FOLDER#key=KEY` for an
LMDB's key, and so on. Where a file does not know the images' sizes, the size stands before the place:
`coco_detections.hdf5#size=640x480&key=42`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import apache_beam as beam

from region_features.allocation import keep_freed_blocks
from region_features.background import in_threads
from region_features.planning.catalog import Catalog
from region_features.records.coco import numbered_id, set_of_id
from region_features.records.failure import IMPORT_STAGE, Failure, ImageFailure
from region_features.records.item import CaptionedImage, ImageItem
from region_features.records.key import lmdb_key
from region_features.records.plan import ImageRef, ShardKey
from region_features.records.region_record import RegionRecord
from region_features.sources.base import STORED, Place, Source, with_size
from region_features.sources.find import find_sources, open_source
from region_features.sources.storage import LOCAL, Storage
from transforms import files
from transforms.import_versions import ImportVersions, refuse_replaced
from transforms.listing import Listing
from transforms.local_copies import RemoteFileError
from transforms.remote_sources import CopiedSource, RemoteStorage

_URI = re.compile(
    r"(?P<path>.*?)#(?:size=(?P<width>\d+)x(?P<height>\d+)&)?(?P<place>(?:line|key|offset|group|row|file)=.*)",
    re.DOTALL,
)
_FEW = 16  # records that are in memory together
_OPENING = threading.Lock()
_SAMPLES = 16  # of each kind of files, of which one is likely to have boxes


@dataclass(frozen=True)
class ImportListing(Listing):
    """What is to be said of imported files, beside the images.

    Attributes:
        samples: format -> a few images of it.
        unsized: paths of files that do not know their images' sizes.
    """

    samples: dict[str, list[ImageRef]] = field(default_factory=dict)
    unsized: tuple[str, ...] = ()


def list_imports(patterns: Sequence[str], catalog: Catalog, prefix: str = "") -> ImportListing:
    """List every record of the files that the patterns name, in COCO's set that its id names, else in its file's.

    An image that comes twice in a set is imported from its first readable record; the others are counted in a note. A
    row that is torn, or a value without id, is a failure of stage `import`.

    Args:
        patterns: paths, folders, globs.
        catalog: takes the images.
        prefix: goes before ids that are only a number.

    Raises:
        ValueError: a pattern names no file of a known format, a file is damaged as a whole or cannot be read, a package
            is missing, or there are no records; names the pattern.
    """
    keep_freed_blocks()
    failures: list[Failure] = []
    samples: dict[str, list[ImageRef]] = {}
    images = _Images(catalog, failures)
    unsized: list[str] = []
    listed = 0
    for pattern in patterns:
        try:
            for source in find_sources(pattern, _storage_of(pattern)):
                _refuse_mark(source.path)
                images.opened[source.path] = source
                versions = ImportVersions()
                for entry in source.places():
                    if isinstance(entry, Failure):
                        failures.append(entry)
                    elif ref := images.add(entry, source, prefix, versions.of(source, entry.place)):
                        listed += 1
                        few = samples.setdefault(source.kind, [])
                        few += [ref] if len(few) < _SAMPLES else []
                if source.sizes != STORED:
                    unsized.append(source.path)
        except (ImportError, ValueError, OSError) as error:
            named = "" if str(error).startswith(pattern) else f"{pattern}: "
            raise ValueError(f"--import {named}{error}") from error
    if not listed:
        reason = f"; the first of {len(failures)} unusable ones: {failures[0].reason}" if failures else ""
        raise ValueError(f"--import {' '.join(patterns)}: expected records of images, found none{reason}")
    count = images.repeated
    notes = [f"{count} records repeat an image and are left out, {images.first_repeated} for one"] if count else []
    return ImportListing(tuple(notes), tuple(failures), samples, tuple(unsized))


def _refuse_mark(path: str) -> None:
    if _URI.fullmatch(f"{path}#key=1")["path"] != path:  # type: ignore[index]  # it ends in a place
        raise ValueError(f"{path}: expected a path without `#` and the name of a place, as #key=; rename it")


@dataclass
class _Images:
    """The images on their way into the catalog."""

    catalog: Catalog
    failures: list[Failure]
    repeated: int = 0
    first_repeated: str = ""
    opened: dict[str, Source] = field(default_factory=dict)
    readable: set[str] = field(default_factory=set)  # places in the catalog of repeated images whose record was read

    def add(self, entry: Place, source: Source, prefix: str, version: str) -> ImageRef | None:
        """Add an image; return None for one that is left out."""
        uri = f"{source.path}#{entry.place}"
        img_id = numbered_id(prefix, entry.img_id) if prefix else entry.img_id
        try:
            lmdb_key(img_id)
        except ValueError as error:
            self.failures.append(Failure(uri, img_id, IMPORT_STAGE, str(error)))
            return None
        ref = ImageRef(set_of_id(img_id) or source.default_set, img_id, uri, entry.num_bytes, version)
        place = f"{ref.set_name}/{img_id}"
        if self.catalog.add_image(place, ref):
            return ref
        earlier = self.catalog.image_at(place)
        problem = None if place in self.readable else self._problem(earlier)
        if problem:
            self.failures.append(Failure(earlier.uri, img_id, IMPORT_STAGE, problem))
            self.catalog.replace_image(place, ref)
            return ref
        self.readable.add(place)
        self.repeated, self.first_repeated = self.repeated + 1, self.first_repeated or uri
        return None

    def _problem(self, ref: ImageRef) -> str | None:
        """Return why a record cannot be read, None if it can."""
        try:
            read_imported_record(ref, self.opened)
        except ImageFailure as failure:
            return failure.reason
        return None


def read_imported_record(ref: ImageRef, opened: dict[str, Source]) -> RegionRecord:
    """Read the record that an image's URI names.

    Args:
        ref: the image, whose id the record gets.
        opened: the sources read so far by path; a new one is added.

    Raises:
        ImportError: a package of the extra `formats` is missing.
        ImageFailure: stage `import`; the reason names file and place.
        RemoteFileError: a remote file cannot be copied to the local disk.
    """
    uri = _URI.fullmatch(ref.uri)
    try:
        if uri is None:
            raise ValueError(f"{ref.uri}: expected PATH#NAME=VALUE, the place of a record")
        path = uri["path"]
        with _OPENING:
            if path not in opened:
                opened[path] = _open(path)
        record = opened[path].read(uri["place"])
        if lmdb_key(record.img_id) != lmdb_key(ref.img_id):
            raise ValueError(f"{ref.uri}: expected the record of {ref.img_id}, got that of {record.img_id}; it changed")
    except RemoteFileError:
        raise
    except (OSError, ValueError) as error:
        raise ImageFailure(IMPORT_STAGE, str(error)) from error
    if uri["width"]:
        record = with_size(record, int(uri["height"]), int(uri["width"]))
    return record if record.img_id == ref.img_id else replace(record, img_id=ref.img_id)


def _open(path: str) -> Source:
    source = open_source(path, _storage_of(path))
    if source is None:
        raise ValueError(f"{path}: expected the file of features that was there before the start, got something else")
    return source


def _storage_of(path: str) -> Storage:
    return RemoteStorage() if files.is_remote(path) else LOCAL


def sized_uri(uri: str, height: int, width: int) -> str:
    """Return the URI of an imported record with the size of its image in pixels."""
    found = _URI.fullmatch(uri)
    return f"{found['path']}#size={width}x{height}&{found['place']}" if found else uri


def read_imported_shard(
    shard: ShardKey, images: Iterable[CaptionedImage], opened: dict[str, Source]
) -> Iterator[tuple[ImageItem, RegionRecord | ImageFailure]]:
    """Yield a shard's records in LMDB key order, or their failures; `opened` as in `read_imported_record`.

    Raises:
        OSError: before the last of them, where a file of features is no longer the one that was listed.
    """

    def read(image: CaptionedImage) -> tuple[ImageItem, RegionRecord | ImageFailure]:
        item = ImageItem(shard, image, "")
        try:
            return item, read_imported_record(image.ref, opened)
        except ImageFailure as failure:
            return item, failure

    in_order = sorted(images, key=lambda image: image.ref.key)
    # A remote record takes several requests, so these few are read side by side.
    for start in range(0, len(in_order), _FEW):
        few = in_order[start : start + _FEW]
        remote = files.is_remote(few[0].ref.uri)
        results = list(in_threads(read, few, len(few)) if remote else map(read, few))
        if start + _FEW >= len(in_order):  # the shard is published with its last record
            refuse_replaced(_sources_of(in_order), opened)
        yield from results


def _sources_of(images: Iterable[CaptionedImage]) -> Iterator[tuple[ImageRef, str, str]]:
    """Yield each image with the path of its source and the place of its record there."""
    for image in images:
        if uri := _URI.fullmatch(image.ref.uri):
            yield image.ref, uri["path"], uri["place"]


class _ReadShard(beam.DoFn):
    """Keeps files open from shard to shard."""

    def __init__(self) -> None:
        self._opened: dict[str, Source] = {}

    def setup(self) -> None:
        keep_freed_blocks()

    def process(
        self, element: tuple[ShardKey, Iterable[CaptionedImage]]
    ) -> Iterator[tuple[ImageItem, RegionRecord | ImageFailure]]:
        shard, images = element
        return read_imported_shard(ShardKey(*shard), images, self._opened)

    def teardown(self) -> None:
        for source in self._opened.values():
            if isinstance(source, CopiedSource):
                source.copy.close()
        self._opened.clear()


@dataclass
class ImportRecords(beam.PTransform):
    """(shard, images) -> (ImageItem, RegionRecord or ImageFailure), the records of a shard together, in key order."""

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        """Read the records."""
        return shards | "ReadShard" >> beam.ParDo(_ReadShard())
