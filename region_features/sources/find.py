"""Find the sources in what a user names: files, folders, globs; each format is told by its content."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from region_features.formats.npz import decode_file
from region_features.lmdb_store.reader import DATA_FILE
from region_features.records.plan import SHARD_SUFFIX, SHARDS_FOLDER
from region_features.sources.base import Source
from region_features.sources.hdf5 import HDF5_START, open_hdf5_source, rows_path
from region_features.sources.image_files import NPZ, ImageCaptioningSource, OpenVqaSource
from region_features.sources.lmdb import LmdbSource, begins_an_lmdb
from region_features.sources.lmdb_forms import ATT, boxes_path
from region_features.sources.parquet import TableSource
from region_features.sources.shards import ShardSource
from region_features.sources.storage import LOCAL, Entry, Storage
from region_features.sources.tsv import TsvSource, begins_a_tsv
from region_features.sources.webdataset import TarSource

_HEAD_BYTES = 1024
_PARQUET_START = b"PAR1"
_TAR_MAGIC = slice(257, 262), b"ustar"
# Beside the features of ImageCaptioning.pytorch: their mean, which follows from them, and the boxes, read with them.
_PARTS = ("_fc", "_box")
_DEEPEST = 3  # folders below the one that is named: an output of several sets has as many
KNOWN = (
    "a TSV of six, ten or thirteen columns, an LMDB (of VOLTA, MMF, ViLBERT, UNITER or ImageCaptioning.pytorch), HDF5 "
    "files (of M2 or bottom-up-attention VQA), npz files (of OpenVQA or ImageCaptioning.pytorch), tars of a "
    "WebDataset, Parquet tables, or an output of this program"
)


def find_sources(pattern: str, storage: Storage = LOCAL) -> Iterator[Source]:
    """Yield the sources that a path or a glob names; folders are searched, other files in them are passed over.

    Of an output folder of this program only the shards are read, which hold all that the rest was built of.

    Raises:
        FileNotFoundError: nothing has this name.
        ImportError: a package of the extra `formats` is missing.
        ValueError: there is no file of a known format, or one is damaged; names the pattern or the file.
        OSError: a file cannot be read.
    """
    entries = storage.expand(pattern)
    if not entries:
        raise FileNotFoundError(f"{pattern}: expected files of features, found none; check the path or the pattern")
    found = False
    for source in _of_entries(entries, _DEEPEST, storage):
        found = True
        yield source
    if not found:
        raise ValueError(f"{pattern}: expected files of features, found none of a known format; known are: {KNOWN}")


def _of_entries(entries: Iterable[Entry], deepest: int, storage: Storage) -> Iterator[Source]:
    folders: dict[str, list[str]] = {}  # those of single npz files
    for entry in entries:
        if entry.name.endswith(NPZ) and not entry.is_folder:
            folder, name = os.path.split(entry.path)
            folders.setdefault(folder or os.curdir, []).append(name)
        elif not _is_part(entry.path, storage):
            source = _open(entry, storage)
            if source:
                yield source
            elif entry.is_folder and deepest:
                yield from _of_entries(_inside(entry.path, storage), deepest - 1, storage)
    for folder, names in folders.items():
        yield _folder_source(folder, storage, names)


def _inside(folder: str, storage: Storage) -> list[Entry]:
    """Return what is to be read in a folder: its shards, or those of an output, else everything."""
    entries = sorted(storage.entries(folder))
    shards = next((entry for entry in entries if entry.name == SHARDS_FOLDER and entry.is_folder), None)
    entries = sorted(storage.entries(shards.path)) if shards else entries
    return [entry for entry in entries if entry.name.endswith(SHARD_SUFFIX)] or entries


def open_source(path: str, storage: Storage = LOCAL) -> Source | None:
    """Open what is one source: a file, an LMDB's folder, a folder of npz files; None for anything else.

    Raises:
        FileNotFoundError: nothing is there.
        ImportError: a package of the extra `formats` is missing.
        ValueError: it is damaged.
        OSError: it cannot be read.
    """
    entry = storage.entry(path)
    if entry is None:
        raise FileNotFoundError(f"{path}: expected a file or folder of features, found nothing; was it moved?")
    return _open(entry, storage)


def _open(entry: Entry, storage: Storage) -> Source | None:
    path = entry.path
    if entry.is_folder:
        if storage.entry(os.path.join(path, DATA_FILE)):
            return _open_lmdb(path, storage)
        first = next((inner.name for inner in storage.entries(path) if inner.name.endswith(NPZ)), None)
        return _folder_source(path, storage, (first,), whole=True) if first else None
    with storage.open_piece(path, _HEAD_BYTES) as stream:
        head = stream.read(_HEAD_BYTES)
    if begins_a_tsv(head) or (".tsv" in entry.name and b"\t" in head):
        return TsvSource(path, storage)
    if begins_an_lmdb(head):
        return _open_lmdb(os.path.dirname(path) if entry.name == DATA_FILE else path, storage)
    if head.startswith(HDF5_START):
        return storage.on_disk(open_hdf5_source, path, rows_path(path))
    if head.startswith(_PARQUET_START):
        return storage.on_disk(TableSource, path)
    if head[_TAR_MAGIC[0]] == _TAR_MAGIC[1]:
        return TarSource(path, storage)
    return ShardSource(path, storage) if path.endswith(SHARD_SUFFIX) else None


def _open_lmdb(path: str, storage: Storage) -> Source:
    boxes = boxes_path(path)
    return storage.on_disk(LmdbSource, path, *([boxes] if boxes else []))


def _is_part(path: str, storage: Storage) -> bool:
    """Return whether a file or folder only completes another one, `cocobu_att` for one, that stands beside it."""
    folder, name = os.path.split(path.rstrip("/"))
    stem, dot, end = name.partition(".lmdb")
    for part in _PARTS:
        if stem.endswith(part):
            return storage.entry(os.path.join(folder, f"{stem.removesuffix(part)}{ATT}{dot}{end}")) is not None
    return False


def _folder_source(folder: str, storage: Storage, names: Sequence[str], whole: bool = False) -> Source:
    """Open a folder of npz files, told by the first of some of them; of the others only if it is taken as a whole."""
    path = os.path.join(folder, names[0])
    with storage.open(path) as stream:
        arrays = decode_file(stream.read(), path, ("feat", "x"))
    chosen = None if whole else names
    if "feat" in arrays:
        return ImageCaptioningSource(folder, chosen, storage)
    if "x" in arrays:
        return OpenVqaSource(folder, chosen, storage)
    raise ValueError(f"{path}: expected an array x (OpenVQA) or feat (ImageCaptioning.pytorch), found neither")
