"""An LMDB that somebody else wrote, opened for reading."""

from __future__ import annotations

import os
from typing import Any

DATA_FILE = "data.mdb"


def open_lmdb(folder: str, readahead: bool) -> Any:
    """An `lmdb.Environment`; it takes no lock: a file that is read never changes, a rebuilt LMDB is another file.

    Args:
        folder: holds data.mdb.
        readahead: whether the system fetches what follows the pages that are read; of use for whole values, which are
            a hundred pages and more.

    Raises:
        ValueError: there is no LMDB, or it is cut off; names the folder.
    """
    import lmdb

    path = os.path.join(folder, DATA_FILE)
    if not os.path.isfile(path):
        raise ValueError(f"{folder}: expected a folder with {DATA_FILE}, found none in it; check the path")
    try:
        env = lmdb.open(
            folder, readonly=True, lock=False, create=False, readahead=readahead, meminit=False, max_readers=1
        )
    except lmdb.Error as error:
        raise ValueError(f"{folder}: expected an LMDB that can be opened, got {error}; is it damaged?") from error
    # Reading beyond the end of a map kills the process.
    size = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    there = os.path.getsize(path)
    if there < size:
        env.close()
        raise ValueError(f"{folder}: expected {DATA_FILE} of {size} bytes, got {there}; copy it or build it again")
    return env
