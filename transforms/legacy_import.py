"""Records that older programs already computed: TSV rows and VOLTA's LMDBs in place of images."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from region_features.formats.tsv import RowPlace, decode_tsv_row, find_rows
from region_features.lmdb_store.open import open_lmdb
from region_features.lmdb_store.reader import LmdbReader
from region_features.lmdb_store.value_codecs import VALUE_CODECS, form_of
from region_features.records.failure import IMPORT_STAGE, Failure, ImageFailure
from region_features.records.item import CaptionedImage, ImageItem
from region_features.records.key import KEYS_RECORD, lmdb_key
from region_features.records.plan import ImageRef, ShardKey
from region_features.records.region_record import RegionRecord
from transforms import files

_PEEKED = 4096  # bytes of an LMDB's value that tell its image's id
_COCO_SET = re.compile(r"COCO_([a-z]+[0-9]{4})_")
_ROW_URI = re.compile(r"(?P<path>.*)#line=(?P<line>\d+)&offset=(?P<offset>\d+)&length=(?P<length>\d+)", re.DOTALL)
_KEY_URI = re.compile(r"(?P<path>.*)#key=(?P<key>.*)", re.DOTALL)


@dataclass(frozen=True)
class ImportListing:
    """The records found, the rows that are none, and what a user should hear."""

    refs: tuple[ImageRef, ...]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]


def row_uri(path: str, place: RowPlace) -> str:
    """A TSV row as the URI of an image."""
    return f"{path}#line={place.line}&offset={place.offset}&length={place.length}"


def set_of(img_id: str, path: str) -> str:
    """COCO's set where the id names one, else the folder that the file lies in."""
    coco = _COCO_SET.match(img_id)
    if coco:
        return coco[1]
    folder = os.path.dirname(path if files.is_remote(path) else os.path.abspath(path))
    return os.path.basename(folder) or "images"


def list_tsv_rows(patterns: Sequence[str]) -> ImportListing:
    """Find every row of the TSV files that the patterns name.

    An image that comes twice is taken from its first row that can be read; the others are counted in a note. A row
    that is torn or has no id is a failure of stage `import`, named by file and line.

    Raises:
        ValueError: a pattern names no file, or a file cannot be read.
    """
    seen: dict[str, tuple[ImageRef, bool]] = {}
    failures: list[Failure] = []
    repeated: list[str] = []
    for path in _tsv_paths(patterns):
        try:
            with _open(path) as stream:
                for place in find_rows(stream, path):
                    if isinstance(place, ValueError):
                        failures.append(Failure(path, "", IMPORT_STAGE, str(place)))
                        continue
                    ref = ImageRef(set_of(place.img_id, path), place.img_id, row_uri(path, place), place.length)
                    earlier = seen.get(place.img_id)
                    if earlier is None:
                        seen[place.img_id] = (ref, False)
                        continue
                    first, checked = earlier
                    reason = None if checked else _what_is_wrong(first)
                    if reason is None:
                        seen[place.img_id] = (first, True)
                        repeated.append(f"{path}, line {place.line}")
                    else:
                        failures.append(Failure(first.uri, first.img_id, IMPORT_STAGE, reason))
                        seen[place.img_id] = (ref, False)
        except OSError as error:
            raise ValueError(f"--import_tsv {path}: expected a readable file, got: {error}") from error
    if not seen:
        why = f"; the first of {len(failures)} unusable rows: {failures[0].reason}" if failures else ""
        raise ValueError(f"--import_tsv {' '.join(patterns)}: expected rows of a region TSV, found none{why}")
    notes = []
    if repeated:
        notes.append(f"{len(repeated)} rows repeat an image and are left out, {repeated[0]} for one")
    return ImportListing(tuple(ref for ref, _ in seen.values()), tuple(failures), tuple(notes))


def _tsv_paths(patterns: Sequence[str]) -> Iterator[str]:
    for pattern in patterns:
        if files.is_remote(pattern):
            paths = [entry.path for entry in files.match(pattern)]
        elif os.path.exists(pattern):
            paths = [pattern]
        else:
            paths = glob.glob(pattern, recursive=True)
        if not paths:
            raise ValueError(f"--import_tsv {pattern}: expected TSV files, found none; check the path or the pattern")
        yield from sorted(paths)


def _open(path: str) -> BinaryIO:
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def _what_is_wrong(ref: ImageRef) -> str | None:
    try:
        read_tsv_row(ref.uri)
    except ImageFailure as failure:
        return failure.reason
    return None


def read_tsv_row(uri: str) -> RegionRecord:
    """The record of one row.

    Raises:
        ImageFailure: stage `import`; the reason names file and line.
    """
    found = _ROW_URI.fullmatch(uri)
    if not found:
        raise ImageFailure(IMPORT_STAGE, f"{uri}: expected FILE#line=..&offset=..&length=..")
    source = f"{found['path']}, line {found['line']}"
    try:
        with _open(found["path"]) as stream:
            stream.seek(int(found["offset"]))
            return decode_tsv_row(stream.read(int(found["length"])), source)
    except (OSError, ValueError) as error:
        raise ImageFailure(IMPORT_STAGE, str(error)) from error


def list_lmdb_records(folder: str) -> ImportListing:
    """Find every image of an LMDB of any form that `--lmdb_form` names.

    The set is the one that COCO's ids name, else the LMDB's name before `_feat.lmdb`. Of a value no more is read than
    its id takes: the rest is decoded, and checked, where the records are loaded.

    Raises:
        ValueError: the folder holds no LMDB, or one of an unknown form.
    """
    refs: list[ImageRef] = []
    failures: list[Failure] = []
    name = os.path.basename(os.path.normpath(folder)).removesuffix(".lmdb").removesuffix("_feat")
    try:
        form = VALUE_CODECS[form_of(folder)]
        # Of each value one page: the system need not fetch those after it.
        opened = open_lmdb(folder, readahead=False)
    except ValueError as error:
        raise ValueError(f"--import_lmdb {error}") from error
    with opened as env, env.begin(buffers=True) as txn:
        for key, value in ((bytes(key), value) for key, value in txn.cursor()):
            if key == KEYS_RECORD:
                continue
            uri = f"{folder}#key={key.decode('utf-8', 'backslashreplace')}"
            try:
                img_id = form.peek(bytes(value[:_PEEKED])) or form.decode(bytes(value), uri).img_id
                if lmdb_key(img_id) != key:
                    raise ValueError(f"{uri}: expected the key {lmdb_key(img_id)!r} of its image {img_id}")
            except ValueError as error:
                failures.append(Failure(uri, "", IMPORT_STAGE, str(error)))
                continue
            coco = _COCO_SET.match(img_id)
            refs.append(ImageRef(coco[1] if coco else name, img_id, uri, len(value)))
    if not refs:
        why = f"; the first of {len(failures)} unusable values: {failures[0].reason}" if failures else ""
        raise ValueError(f"--import_lmdb {folder}: expected images, found none{why}")
    return ImportListing(tuple(refs), tuple(failures), ())


def read_lmdb_record(uri: str, lmdbs: dict[str, LmdbReader]) -> RegionRecord:
    """The record of one key of an LMDB.

    Args:
        uri: FOLDER#key=KEY.
        lmdbs: folder -> the LMDB, for those read before; takes up a new one.

    Raises:
        ImageFailure: stage `import`, with the reason.
    """
    found = _KEY_URI.fullmatch(uri)
    if not found:
        raise ImageFailure(IMPORT_STAGE, f"{uri}: expected FOLDER#key=KEY")
    try:
        source = lmdbs.get(found["path"]) or lmdbs.setdefault(found["path"], LmdbReader(found["path"]))
        value = source.get(found["key"].encode())
        if value is None:
            raise ValueError(f"{uri}: the key is gone")
        return VALUE_CODECS[source.form].decode(value, uri)
    except (OSError, ValueError) as error:
        raise ImageFailure(IMPORT_STAGE, str(error)) from error


def load_records(
    shard: ShardKey, images: Iterable[CaptionedImage], lmdbs: dict[str, LmdbReader]
) -> Iterator[tuple[ImageItem, RegionRecord | ImageFailure]]:
    """The records of a shard in LMDB key order, or why there is none; `lmdbs` as for `read_lmdb_record`."""
    for image in sorted(images, key=lambda image: image.ref.key):
        uri = image.ref.uri
        try:
            record = read_tsv_row(uri) if _ROW_URI.fullmatch(uri) else read_lmdb_record(uri, lmdbs)
            yield ImageItem(shard, image, ""), record
        except ImageFailure as failure:
            yield ImageItem(shard, image, ""), failure


class _LoadShard(beam.DoFn):
    """Keeps LMDBs open between shards; a process's threads share one, which lmdb would not open twice."""

    def __init__(self) -> None:
        self._lmdbs: dict[str, LmdbReader] = {}

    def process(
        self, element: tuple[ShardKey, Iterable[CaptionedImage]]
    ) -> Iterator[tuple[ImageItem, RegionRecord | ImageFailure]]:
        shard, images = element
        return load_records(ShardKey(*shard), images, self._lmdbs)

    def teardown(self) -> None:
        self._lmdbs.clear()


@dataclass
class LoadRecords(beam.PTransform):
    """(shard, images) -> (ImageItem, RegionRecord or ImageFailure), in key order, a shard's together."""

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        """Read each shard's records."""
        return shards | "LoadShard" >> beam.ParDo(_LoadShard())
