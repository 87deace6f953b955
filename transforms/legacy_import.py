"""Import records that other programs computed: TSV rows or an LMDB in place of images.

The URI of an imported record is `FILE#line=..&offset=..&length=..` for a TSV row, `FOLDER#key=KEY` for an LMDB's key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam

from region_features.formats.tsv import decode_tsv_row, find_rows
from region_features.lmdb_store.reader import DATA_FILE, LmdbReader, naming_damage, open_lmdb, stored_keys
from region_features.lmdb_store.value_codecs import VALUE_CODECS, codec_name_of
from region_features.records.coco import set_of_id
from region_features.records.failure import IMPORT_STAGE, Failure, ImageFailure
from region_features.records.item import CaptionedImage, ImageItem
from region_features.records.key import lmdb_key
from region_features.records.plan import ImageRef, ShardKey
from region_features.records.region_record import RegionRecord
from transforms import files
from transforms.input_files import FileState, find_states
from transforms.listing import Listing, expand_pattern, set_of_path

_PEEKED_BYTES = 4096  # start of an LMDB's value, which holds the image's id
_ROW_URI = re.compile(r"(?P<file>.*)#line=(?P<line>\d+)&offset=(?P<offset>\d+)&length=(?P<length>\d+)", re.DOTALL)
_KEY_MARK = "#key="  # at the first one in a URI the key begins
_KEY_URI = re.compile(r"(?P<folder>.*?)#key=(?P<key>.*)", re.DOTALL)


@dataclass(frozen=True)
class ImportListing(Listing):
    """The records of imported files, each an image of the run."""

    refs: tuple[ImageRef, ...] = ()


def list_tsv_rows(patterns: Sequence[str]) -> ImportListing:
    """List every row of the TSV files that the patterns name, in COCO's set that the id names, else in the folder's.

    An image that comes twice is imported from its first readable row; its other rows are counted in a note. A row that
    is torn or has no id is a failure of stage `import`.

    Raises:
        ValueError: a pattern names no file, a file cannot be read, or there are no rows.
    """
    refs: dict[str, ImageRef] = {}
    readable: set[str] = set()  # ids of repeated images whose listed row has been read
    failures: list[Failure] = []
    repeated: list[str] = []
    for path, state in _tsv_paths(patterns):
        try:
            with files.open_stream(path) as stream:
                for place in find_rows(stream, path):
                    if isinstance(place, ValueError):
                        failures.append(Failure(path, "", IMPORT_STAGE, str(place)))
                        continue
                    uri = f"{path}#line={place.line}&offset={place.offset}&length={place.length}"
                    try:
                        lmdb_key(place.img_id)
                    except ValueError as error:
                        failures.append(Failure(uri, place.img_id, IMPORT_STAGE, str(error)))
                        continue
                    set_name = set_of_id(place.img_id) or set_of_path(path)
                    ref = ImageRef(set_name, place.img_id, uri, place.length, state.version)
                    earlier = refs.setdefault(ref.img_id, ref)
                    if earlier is ref:
                        continue
                    problem = None if ref.img_id in readable else _read_problem(earlier)
                    if problem:
                        failures.append(Failure(earlier.uri, earlier.img_id, IMPORT_STAGE, problem))
                        refs[ref.img_id] = ref
                    else:
                        readable.add(ref.img_id)
                        repeated.append(f"{path}, line {place.line}")
        except OSError as error:
            raise ValueError(f"--import_tsv {path}: expected a readable file, got: {error}") from error
    if not refs:
        reason = f"; the first of {len(failures)} unusable rows: {failures[0].reason}" if failures else ""
        raise ValueError(f"--import_tsv {' '.join(patterns)}: expected rows of a region TSV, found none{reason}")
    notes = (f"{len(repeated)} rows repeat an image and are left out, {repeated[0]} for one",) if repeated else ()
    return ImportListing(notes, tuple(failures), tuple(refs.values()))


def _tsv_paths(patterns: Sequence[str]) -> Iterator[tuple[str, FileState]]:
    for pattern in patterns:
        paths = sorted(expand_pattern(pattern))
        if not paths:
            raise ValueError(f"--import_tsv {pattern}: expected TSV files, found none; check the path or the pattern")
        yield from paths


def _read_problem(ref: ImageRef) -> str | None:
    """Return why a row cannot be read, None if it can."""
    try:
        read_imported_record(ref.uri, {})
    except ImageFailure as failure:
        return failure.reason
    return None


def list_lmdb_records(folder: str) -> ImportListing:
    """List every image of an LMDB of any form, in COCO's set that the id names, else in that of the LMDB's name.

    Only the start of a value is read, for its id. A value that cannot be read, has no id, or lies under the key of
    another id is a failure of stage `import`.

    Raises:
        ValueError: the folder holds no LMDB, one whose tree of keys is damaged, one of an unknown form, or one without
            images; or no URI can tell the folder's name from the key.
    """
    if _KEY_MARK in folder:
        raise ValueError(f"--import_lmdb {folder}: expected a path without {_KEY_MARK!r}; rename the folder")
    refs: list[ImageRef] = []
    failures: list[Failure] = []
    ((_, state),) = find_states([os.path.join(folder, DATA_FILE)])
    default_set = os.path.basename(os.path.normpath(folder)).removesuffix(".lmdb").removesuffix("_feat")
    try:
        codec = VALUE_CODECS[codec_name_of(folder)]
        environment = open_lmdb(folder, readahead=False)  # one page is read of each value
    except ValueError as error:
        raise ValueError(f"--import_lmdb {error}") from error
    with environment:
        for key in stored_keys(folder, environment, f"--import_lmdb {folder}"):
            uri = f"{folder}{_KEY_MARK}{key.decode('utf-8', 'backslashreplace')}"
            try:
                # A transaction each: one that met damage reads nothing more.
                with naming_damage(uri), environment.begin(buffers=True) as transaction:
                    value = transaction.get(key)
                    if value is None:
                        raise ValueError(
                            f"{uri}: the order of the LMDB's keys is damaged, it does not lead to this one"
                        )
                    img_id = codec.peek(bytes(value[:_PEEKED_BYTES])) or codec.decode(bytes(value), uri).img_id
                    num_bytes = len(value)
                if lmdb_key(img_id) != key:
                    raise ValueError(f"{uri}: expected the key {lmdb_key(img_id)!r} of its image {img_id}")
            except ValueError as error:
                failures.append(Failure(uri, "", IMPORT_STAGE, str(error)))
                continue
            refs.append(ImageRef(set_of_id(img_id) or default_set, img_id, uri, num_bytes, state.version))
    if not refs:
        reason = f"; the first of {len(failures)} unusable values: {failures[0].reason}" if failures else ""
        raise ValueError(f"--import_lmdb {folder}: expected images, found none{reason}")
    return ImportListing((), tuple(failures), tuple(refs))


def read_imported_record(uri: str, lmdbs: dict[str, LmdbReader]) -> RegionRecord:
    """Read the record that a URI names.

    Args:
        uri: of a TSV row or an LMDB's key.
        lmdbs: the LMDBs read so far by folder; a new one is added.

    Raises:
        ImageFailure: stage `import`; the reason names file and line, or folder and key.
    """
    row, key = _ROW_URI.fullmatch(uri), _KEY_URI.fullmatch(uri)
    try:
        if row:
            with files.open_stream(row["file"]) as stream:
                stream.seek(int(row["offset"]))
                return decode_tsv_row(stream.read(int(row["length"])), f"{row['file']}, line {row['line']}")
        if not key:
            raise ValueError(f"{uri}: expected FILE#line=..&offset=..&length=.. or FOLDER#key=KEY")
        lmdb = lmdbs.get(key["folder"]) or lmdbs.setdefault(key["folder"], LmdbReader(key["folder"]))
        value = lmdb.get(key["key"].encode())
        if value is None:
            raise ValueError(f"{uri}: the key is gone")
        return lmdb.codec.decode(value, uri)
    except (OSError, ValueError) as error:
        raise ImageFailure(IMPORT_STAGE, str(error)) from error


def read_imported_shard(
    shard: ShardKey, images: Iterable[CaptionedImage], lmdbs: dict[str, LmdbReader]
) -> Iterator[tuple[ImageItem, RegionRecord | ImageFailure]]:
    """Yield a shard's records in LMDB key order, or their failures; `lmdbs` as in `read_imported_record`."""
    for image in sorted(images, key=lambda image: image.ref.key):
        item = ImageItem(shard, image, "")
        try:
            yield item, read_imported_record(image.ref.uri, lmdbs)
        except ImageFailure as failure:
            yield item, failure


class _ReadShard(beam.DoFn):
    """Keeps LMDBs open from shard to shard."""

    def __init__(self) -> None:
        self._lmdbs: dict[str, LmdbReader] = {}

    def process(
        self, element: tuple[ShardKey, Iterable[CaptionedImage]]
    ) -> Iterator[tuple[ImageItem, RegionRecord | ImageFailure]]:
        shard, images = element
        return read_imported_shard(ShardKey(*shard), images, self._lmdbs)

    def teardown(self) -> None:
        self._lmdbs.clear()


@dataclass
class ImportRecords(beam.PTransform):
    """(shard, images) -> (ImageItem, RegionRecord or ImageFailure), the records of a shard together, in key order."""

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        """Read the records."""
        return shards | "ReadShard" >> beam.ParDo(_ReadShard())
