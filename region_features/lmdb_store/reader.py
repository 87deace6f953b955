"""Records by key out of an LMDB folder, in any process and thread."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from region_features.lmdb_store.open import DATA_FILE, open_lmdb
from region_features.lmdb_store.value_codecs import VALUE_CODECS, form_of
from region_features.records.key import KEYS_RECORD, lmdb_key
from region_features.records.region_record import RegionRecord


class LmdbReader:
    """One LMDB folder, opened on first use.

    Args:
        path: the folder that holds data.mdb.

    Raises:
        ValueError: the LMDB is of a form that is not known here; on first use: it is damaged or cut off.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.form = form_of(path)
        self._environment: _Environment | None = None
        self._key_list: list[str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_environment": None, "_key_list": None}

    @property
    def keys(self) -> Sequence[str]:
        """The keys of the record `keys`, in its order."""
        if self._key_list is None:
            self._key_list = [key.decode() for key in self.key_record()]
        return self._key_list

    def key_record(self) -> list[bytes]:
        """The list that the record `keys` holds.

        Raises:
            ValueError: there is none, or it is damaged.
        """
        data = self.get(KEYS_RECORD)
        if data is None:
            raise ValueError(f"{self.path}: expected a record {KEYS_RECORD!r}, got none; build the LMDB again")
        return VALUE_CODECS[self.form].decode_keys(data, self.path)

    def stored_keys(self) -> Iterator[bytes]:
        """All keys of the database but `keys` itself, in the order of their bytes."""
        with self._environment_now().begin() as transaction, transaction.cursor() as cursor:
            yield from (key for key in cursor.iternext(values=False) if key != KEYS_RECORD)

    def get(self, key: bytes) -> bytes | None:
        """The value under a key, None where there is none.

        Raises:
            ValueError: the file is damaged.
        """
        environment = self._environment_now()
        import lmdb

        try:
            with environment.begin() as transaction:
                return transaction.get(key)
        except lmdb.Error as error:
            raise ValueError(f"{self.path}, key {key!r}: cannot be read ({error}); build the LMDB again") from error

    def read(self, key: bytes) -> RegionRecord | None:
        """The record under a key, None where there is none.

        Raises:
            ValueError: the value is damaged.
        """
        data = self.get(key)
        return None if data is None else VALUE_CODECS[self.form].decode(data, f"{self.path}, key {key!r}")

    def read_at(self, position: int) -> RegionRecord:
        """See `region_features.Source`."""
        key = self.keys[position]
        record = self.read(key.encode())
        if record is None:
            raise ValueError(f"{self.path}: its key list names {key!r}, and no record has that key; build it again")
        return record

    def read_named(self, name: str) -> RegionRecord:
        """See `region_features.Source`."""
        try:
            key = lmdb_key(name)
        except ValueError as error:
            raise KeyError(f"{self.path}: {error}") from error
        record = self.read(key)
        if record is None:
            raise KeyError(f"{self.path}: no image {name!r} (LMDB key {key.decode()!r})")
        if name != record.img_id and not _is_number(name):
            raise KeyError(f"{self.path}: no image {name!r}; its LMDB key {key.decode()!r} holds {record.img_id}")
        return record

    def has(self, name: str) -> bool:
        """See `region_features.Source`."""
        try:
            self.read_named(name)
        except KeyError:
            return False
        return True

    def _environment_now(self) -> Any:
        environment = self._environment
        if environment is None:
            environment = self._environment = _Environment.of(self.path)
            weakref.finalize(self, environment.release)
        return environment.now()


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


class _Environment:
    """An open LMDB that all users in a process share: lmdb refuses to open one file twice, also in a forked child."""

    # By device and inode: a rebuilt LMDB at the same path is another file, and may be opened beside the old one.
    _shared: ClassVar[dict[tuple[int, int], _Environment]] = {}
    # Garbage collection may release a user in a thread that is here already.
    _lock = threading.RLock()

    def __init__(self, path: str, file: tuple[int, int]) -> None:
        self._path, self._file = path, file
        self._users = 0
        self._handle: Any = None

    @classmethod
    def of(cls, path: str) -> _Environment:
        """The LMDB of a folder, for one more user, who calls `release` at the end."""
        state = os.stat(os.path.join(path, DATA_FILE))
        file = (state.st_dev, state.st_ino)
        with cls._lock:
            environment = cls._shared.get(file) or cls(os.path.abspath(path), file)
            environment._users += 1
            cls._shared[file] = environment
        return environment

    def now(self) -> Any:
        """The `lmdb.Environment`, opened by whoever needs it first."""
        if self._handle is None:
            with self._lock:
                if self._handle is None:
                    # A value is 100 pages and more: without readahead each is a disk's read of its own.
                    self._handle = open_lmdb(self._path, readahead=True)
        return self._handle

    def release(self) -> None:
        """The last user closes the file; who opens it next waits for that."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                del self._shared[self._file]
                self._close()

    def _close(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    @classmethod
    def after_fork(cls) -> None:
        """In the child: nothing is open yet. Without a lock file, closing takes nothing from the parent."""
        cls._lock = threading.RLock()
        for shared in cls._shared.values():
            shared._close()


os.register_at_fork(after_in_child=_Environment.after_fork)
