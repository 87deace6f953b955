"""Records by key out of an LMDB folder, in any process and thread."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar

from region_features.lmdb_store.page_check import read_keys
from region_features.lmdb_store.value_codecs import VALUE_CODECS, codec_name_of
from region_features.records.key import KEYS_RECORD, lmdb_key
from region_features.records.region_record import RegionRecord

DATA_FILE = "data.mdb"


def data_path(path: str) -> str:
    """Return the path of an LMDB's file: the path itself where it is a file, else `data.mdb` in that folder."""
    return path if os.path.isfile(path) else os.path.join(path, DATA_FILE)


def open_lmdb(folder: str, readahead: bool) -> Any:
    """Open an `lmdb.Environment` for reading, without a lock: an LMDB never changes, a rebuilt one is another file.

    `readahead` fetches the pages after those that are read: else each of the 100 and more pages of a value is a disk
    read of its own. `folder` may also be the path of an LMDB that is a single file.

    Raises:
        ValueError: there is no LMDB, or it is cut off; names the folder.
    """
    import lmdb

    path = data_path(folder)
    if not os.path.isfile(path):
        raise ValueError(f"{folder}: expected a folder with {DATA_FILE}, found none in it; check the path")
    try:
        env = lmdb.open(folder, subdir=path != folder, readonly=True, lock=False, readahead=readahead)
    except lmdb.Error as error:
        raise ValueError(f"{folder}: expected an LMDB that can be opened, got {error}; is it damaged?") from error
    # Reading beyond the end of a map kills the process.
    expected_size = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    size = os.path.getsize(path)
    if size < expected_size:
        env.close()
        raise ValueError(
            f"{folder}: expected {DATA_FILE} of {expected_size} bytes, got {size}; copy it or build it again"
        )
    return env


@contextlib.contextmanager
def naming_damage(where: str) -> Iterator[None]:
    """Raise lmdb's errors, of pages that are damaged or missing, as a ValueError that begins with `where`."""
    import lmdb

    try:
        yield
    except lmdb.Error as error:
        raise _damaged(where, error) from error


def stored_keys(folder: str, env: Any, where: str) -> list[bytes]:
    """Return all keys of an open LMDB but `keys` itself, in the order of their bytes.

    Raises:
        ValueError: a page of its tree is damaged, over which iterating would end the process; begins with `where`.
    """
    with open(data_path(folder), "rb") as stream:
        try:
            return [key for key in read_keys(stream, env.stat()["psize"]) if key != KEYS_RECORD]
        except ValueError as error:
            raise _damaged(where, error) from error


def _damaged(where: str, error: Exception) -> ValueError:
    return ValueError(f"{where}: cannot be read ({error}); copy the LMDB or build it again")


class LmdbReader:
    """The LMDB in a folder, opened on first use.

    Args:
        path: of the LMDB.
        readahead: as `open_lmdb`; where the process has the file open already, it stays as it was opened.

    Raises:
        ValueError: this version does not know the LMDB's form; on first use: the LMDB is damaged or cut off.
    """

    def __init__(self, path: str, readahead: bool = True) -> None:
        self.path = path
        self._readahead = readahead
        self.codec = VALUE_CODECS[codec_name_of(path)]
        self._environment: _Environment | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "codec": self.codec, "_readahead": self._readahead, "_environment": None}

    @cached_property
    def keys(self) -> Sequence[str]:
        """The keys in the record `keys`, in its order."""
        return [key.decode() for key in self.key_record()]

    def key_record(self) -> list[bytes]:
        """Return the list in the record `keys`; ValueError if it is missing or damaged."""
        data = self.get(KEYS_RECORD)
        if data is None:
            raise ValueError(f"{self.path}: expected a record {KEYS_RECORD!r}, got none; build the LMDB again")
        return self.codec.decode_keys(data, self.path)

    def stored_keys(self) -> list[bytes]:
        """Return all keys of the database but `keys` itself, in the order of their bytes; ValueError if damaged."""
        return stored_keys(self.path, self._opened(), self.path)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, None if there is no such key; ValueError if the file is damaged."""
        opened = self._opened()
        with naming_damage(f"{self.path}, key {key!r}"), opened.begin() as transaction:
            return transaction.get(key)

    def peek(self, key: bytes, size: int) -> tuple[bytes, int] | None:
        """Return the first bytes of a value, at most `size`, and its length; None if there is no such key.

        Raises:
            ValueError: the file is damaged.
        """
        opened = self._opened()
        # A transaction each: one that met damage reads nothing more.
        with naming_damage(f"{self.path}, key {key!r}"), opened.begin(buffers=True) as transaction:
            value = transaction.get(key)
            return None if value is None else (bytes(value[:size]), len(value))

    def read(self, key: bytes) -> RegionRecord | None:
        """Return the record of a key, None if there is no such key; ValueError if the value is damaged."""
        data = self.get(key)
        return None if data is None else self.codec.decode(data, f"{self.path}, key {key!r}")

    def read_at(self, position: int) -> RegionRecord:
        """Return the record at a position of the key list, from 0; ValueError if it is missing or damaged."""
        key = self.keys[position]
        record = self.read(key.encode())
        if record is None:
            raise ValueError(f"{self.path}: its key list names {key!r}, and no record has that key; build it again")
        return record

    def read_named(self, name: str) -> RegionRecord:
        """Return the record of an image id or key.

        Raises:
            KeyError: no image has this id or key.
            ValueError: the value is damaged.
        """
        try:
            key = lmdb_key(name)
        except ValueError as error:
            raise KeyError(f"{self.path}: {error}") from error
        record = self.read(key)
        if record is None:
            raise KeyError(f"{self.path}: no image {name!r} (LMDB key {key.decode()!r})")
        if name != record.img_id and not (name.isascii() and name.isdigit()):
            raise KeyError(f"{self.path}: no image {name!r}; its LMDB key {key.decode()!r} holds {record.img_id}")
        return record

    def has(self, name: str) -> bool:
        """Return whether an image has this id or key."""
        try:
            self.read_named(name)
        except KeyError:
            return False
        return True

    def _opened(self) -> Any:
        if self._environment is None:
            self._environment = _Environment.of(self.path)
            weakref.finalize(self, self._environment.release)
        return self._environment.opened(self._readahead)


class _Environment:
    """An open LMDB that all readers in a process share: lmdb refuses to open one file twice, also in a forked child."""

    # By device and inode: a rebuilt LMDB at the same path is another file, and may be opened beside the old one.
    _shared: ClassVar[dict[tuple[int, int], _Environment]] = {}
    # Reentrant: garbage collection may release a reader in a thread that holds the lock already.
    _lock = threading.RLock()

    def __init__(self, path: str, file: tuple[int, int]) -> None:
        self._path, self._file = path, file
        self._readers = 0
        self._handle: Any = None

    @classmethod
    def of(cls, path: str) -> _Environment:
        """Return the shared LMDB of a folder for one more reader, who calls `release` at the end."""
        state = os.stat(data_path(path))
        file = (state.st_dev, state.st_ino)
        with cls._lock:
            environment = cls._shared.get(file) or cls(os.path.abspath(path), file)
            environment._readers += 1
            cls._shared[file] = environment
        return environment

    def opened(self, readahead: bool) -> Any:
        """Return the `lmdb.Environment`; the first call opens it, and decides on `readahead`."""
        with self._lock:
            if self._handle is None:
                self._handle = open_lmdb(self._path, readahead)
            return self._handle

    def release(self) -> None:
        """Close the file for the last reader, under the lock: the next one to open it waits."""
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                del self._shared[self._file]
                self._close()

    def _close(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    @classmethod
    def after_fork(cls) -> None:
        """Close every file in the child; without a lock file, that takes nothing from the parent."""
        cls._lock = threading.RLock()
        for shared in cls._shared.values():
            shared._close()


os.register_at_fork(after_in_child=_Environment.after_fork)
