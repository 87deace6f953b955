"""Find the sources in what a user names: files, folders, globs; each format is told by its content."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator

from region_features.formats.npz import decode_file
from region_features.lmdb_store.reader import DATA_FILE
from region_features.records.plan import SHARD_SUFFIX, SHARDS_FOLDER
from region_features.sources.base import Source
from region_features.sources.hdf5 import HDF5_START, open_hdf5_source
from region_features.sources.image_files import NPZ, ImageCaptioningSource, OpenVqaSource
from region_features.sources.lmdb import LmdbSource, begins_an_lmdb
from region_features.sources.parquet import TableSource
from region_features.sources.shards import ShardSource
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


def find_sources(pattern: str) -> Iterator[Source]:
    """Yield the sources that a path or a glob names; folders are searched, other files in them are passed over.

    Of an output folder of this program only the shards are read, which hold all that the rest was built of.

    Raises:
        FileNotFoundError: nothing has this name.
        ImportError: a package of the extra `formats` is missing.
        ValueError: there is no file of a known format, or one is damaged; names the pattern or the file.
        OSError: a file cannot be read.
    """
    paths = [pattern] if os.path.lexists(pattern) else sorted(glob.glob(pattern, recursive=True))
    if not paths:
        raise FileNotFoundError(f"{pattern}: expected files of features, found none; check the path or the pattern")
    found = False
    for source in _of_paths(paths, _DEEPEST):
        found = True
        yield source
    if not found:
        raise ValueError(f"{pattern}: expected files of features, found none of a known format; known are: {KNOWN}")


def _of_paths(paths: list[str], deepest: int) -> Iterator[Source]:
    folders: dict[str, list[str]] = {}  # those of single npz files
    for path in paths:
        if path.endswith(NPZ) and os.path.isfile(path):
            folder, name = os.path.split(path)
            folders.setdefault(folder or os.curdir, []).append(name)
        elif not _is_part(path):
            source = open_source(path)
            if source:
                yield source
            elif os.path.isdir(path) and deepest:
                yield from _of_paths(_inside(path), deepest - 1)
    for folder, names in folders.items():
        yield _folder_source(folder, names)


def _inside(folder: str) -> list[str]:
    """Return what is to be read in a folder: its shards, or those of an output, else everything."""
    shards = os.path.join(folder, SHARDS_FOLDER)
    folder = shards if os.path.isdir(shards) else folder
    names = sorted(os.listdir(folder))
    whole = [name for name in names if name.endswith(SHARD_SUFFIX)]
    return [os.path.join(folder, name) for name in whole or names]


def open_source(path: str) -> Source | None:
    """Open what is one source: a file, an LMDB's folder, a folder of npz files; None for anything else.

    Raises:
        ImportError: a package of the extra `formats` is missing.
        ValueError: it is damaged.
        OSError: it cannot be read.
    """
    if os.path.isdir(path):
        if os.path.isfile(os.path.join(path, DATA_FILE)):
            return LmdbSource(path)
        with os.scandir(path) as entries:
            first = next((entry.name for entry in entries if entry.name.endswith(NPZ)), None)
        return _folder_source(path) if first else None
    with open(path, "rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if begins_a_tsv(head) or (".tsv" in os.path.basename(path) and b"\t" in head):
        return TsvSource(path)
    if begins_an_lmdb(head):
        return LmdbSource(os.path.dirname(path) if os.path.basename(path) == DATA_FILE else path)
    if head.startswith(HDF5_START):
        return open_hdf5_source(path)
    if head.startswith(_PARQUET_START):
        return TableSource(path)
    if head[_TAR_MAGIC[0]] == _TAR_MAGIC[1]:
        return TarSource(path)
    return ShardSource(path) if path.endswith(SHARD_SUFFIX) else None


def _is_part(path: str) -> bool:
    """Return whether a file or folder only completes another one, `cocobu_att` for one, that stands beside it."""
    folder, name = os.path.split(os.path.normpath(path))
    stem, dot, end = name.partition(".lmdb")
    for part in _PARTS:
        if stem.endswith(part):
            return os.path.exists(os.path.join(folder, f"{stem.removesuffix(part)}_att{dot}{end}"))
    return False


def _folder_source(folder: str, names: list[str] | None = None) -> Source:
    """Open a folder of npz files, told by one of them."""
    name = names[0] if names else next(name for name in os.listdir(folder) if name.endswith(NPZ))
    path = os.path.join(folder, name)
    with open(path, "rb") as stream:
        arrays = decode_file(stream.read(), path, ("feat", "x"))
    if "feat" in arrays:
        return ImageCaptioningSource(folder, names)
    if "x" in arrays:
        return OpenVqaSource(folder, names)
    raise ValueError(f"{path}: expected an array x (OpenVQA) or feat (ImageCaptioning.pytorch), found neither")
