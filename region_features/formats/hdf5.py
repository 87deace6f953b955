"""HDF5 files whose bytes depend on their content alone, and that every HDF5 from 1.8 on can read."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from region_features.formats import LARGEST_ARRAY, REMEDY
from region_features.formats.extras import import_extra

# What h5py makes of damaged bytes.
_DAMAGE = (OSError, RuntimeError, KeyError, TypeError, ValueError, IndexError, OverflowError)


def create_hdf5(path: str) -> Any:
    """Create a file for writing, an `h5py.File`.

    Raises:
        ImportError: h5py is not installed.
        OSError: the file cannot be created.
    """
    # The oldest format: later ones store the time in the root group, which h5py cannot forbid.
    return import_extra("h5py").File(path, "w", libver="earliest")


def open_hdf5(path: str) -> Any:
    """Open a file for reading, an `h5py.File`.

    Raises:
        ImportError: h5py is not installed.
        ValueError: it is no HDF5 file, or damaged; names it.
    """
    h5py = import_extra("h5py")
    try:
        return h5py.File(path, "r", locking=False)  # not every network file system has locks
    except OSError as error:
        raise ValueError(f"{path}: expected an HDF5 file, got: {error}; build it again") from error


def dataset_names(file: Any) -> Iterator[str]:
    """Yield the names in a file's root group; ValueError if they are damaged."""
    with _naming_damage(file.filename, "names of datasets"):
        for name in file:  # h5py gives those that are no UTF-8 as bytes
            yield name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")


def has_dataset(file: Any, name: str) -> bool:
    """Return whether the root group has this name; ValueError if it is damaged."""
    with _naming_damage(file.filename, "names of datasets"):
        return name in file


@contextlib.contextmanager
def _naming_damage(where: str, expected: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise ValueError(f"{where}: expected {expected}, got: {error}; {REMEDY}") from error


def read_rows(file: Any, name: str, rows: int | slice | None = None) -> NDArray[Any]:
    """Read a dataset, or some of its rows, with as much memory as an image may take.

    Args:
        file: an `h5py.File`.
        name: of the dataset.
        rows: which; None for all.

    Raises:
        ValueError: there is no such dataset in the file itself, it is not of numbers, or they are too many.
    """
    h5py = import_extra("h5py")
    with _naming_damage(f"{file.filename}, dataset {name}", "an array"):
        # What a file names in other files is not read: they may be anybody's.
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            raise ValueError("no dataset of that name")
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise ValueError("a group of datasets")
        if dataset.external or dataset.is_virtual:
            raise ValueError("values in other files")
        shape = dataset.shape
        if dataset.dtype.kind not in "fiu":
            raise ValueError(f"values of type {dataset.dtype}")
        if rows is not None:
            shape = (len(range(*rows.indices(shape[0]))) if isinstance(rows, slice) else 1, *shape[1:])
        # A file of a few bytes may claim any size; a chunk is unpacked as a whole.
        size = max(math.prod(shape), math.prod(dataset.chunks or ())) * dataset.dtype.itemsize
        if size > LARGEST_ARRAY:
            raise ValueError(f"an array of {size} bytes, of at most {LARGEST_ARRAY}")
        return np.asarray(dataset[() if rows is None else rows])


def write_dataset(file: Any, name: str, array: NDArray[Any]) -> None:
    """Write an array as a dataset of its own, in one piece, without a time.

    `File.create_dataset` does the same in twice the time, more than writing 300 kB takes.
    """
    h5py = import_extra("h5py")
    options = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    options.set_obj_track_times(False)
    kind, space = h5py.h5t.py_create(array.dtype), h5py.h5s.create_simple(array.shape)
    dataset = h5py.h5d.create(file.id, name.encode(), kind, space, options)
    if array.size:
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(array))


def same_array(dataset: Any, array: NDArray[Any]) -> bool:
    """Return whether what was read of a dataset is an array, bit for bit."""
    stored = np.asarray(dataset)
    same_kind = stored.dtype == array.dtype and stored.shape == array.shape
    return same_kind and stored.tobytes() == array.tobytes()
