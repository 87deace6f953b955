"""HDF5 files whose bytes depend on their content alone, and that every HDF5 from 1.8 on can read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from region_features.formats.extras import import_extra


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
