"""Copies of remote files on the local disk, for formats that are read here and there.

The processes of a machine share a copy, since a worker may have one for each core. The last that uses it deletes it;
what a killed process left is deleted before the next copy is made. They lie in the folder for temporary files, TMPDIR.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import google_crc32c

from transforms import files
from transforms.input_files import FileState
from transforms.publication import encode_crc32c, stored_crc32c
from transforms.remote_errors import as_os_errors

_LOCK = ".lock"


class RemoteFileError(OSError):
    """A remote file cannot be brought to the local disk, or is not what was listed; no single image is to blame."""


def copies_folder() -> str:
    """Return the folder of this user's copies; make it if it is missing.

    Raises:
        RemoteFileError: it belongs to another user, who could change what is read.
    """
    folder = os.path.join(tempfile.gettempdir(), f"region-features-copies-{os.getuid()}")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if os.lstat(folder).st_uid != os.getuid():
        raise RemoteFileError(f"{folder}: expected a folder of this user; remove it, or set TMPDIR to another place")
    return folder


@dataclass
class _Keeper:
    """Who keeps the copies of this process, see `keep_copies`."""

    say: Callable[[str], None]
    copies: list[LocalCopy] = field(default_factory=list)


class LocalCopy:
    """Remote files in a folder on the local disk, until it is closed or the process ends.

    Args:
        states: URI -> the file as it was listed. Two copies of the same files as they were listed are one.

    Raises:
        RemoteFileError: there is no room, a file cannot be read, or it is not what was listed.
    """

    keeper: ClassVar[_Keeper | None] = None

    def __init__(self, states: Mapping[str, FileState]) -> None:
        root = copies_folder()
        listed = "\n".join(f"{uri}\t{state.size}\t{state.version}" for uri, state in sorted(states.items()))
        self._folder = os.path.join(root, hashlib.sha256(listed.encode()).hexdigest()[:24])
        lock = _lock_shared(self._folder, states)
        # Not left to garbage collection alone: errors of Google's client hold the frames below them for long.
        self.close = weakref.finalize(self, _release, self._folder, lock, os.getpid())
        if self.keeper is not None:
            self.keeper.copies.append(self)

    def path_of(self, uri: str) -> str:
        """Return the local path of a file or folder."""
        return local_path(self._folder, uri)

    def original(self, text: str) -> str:
        """Return a text with the URIs of the files in place of their local paths."""
        return text.replace(f"{self._folder}/gs/", "gs://")


@contextlib.contextmanager
def keep_copies(say: Callable[[str], None]) -> Iterator[None]:
    """Keep every copy that this process makes or uses in the block, and close them all at its end.

    So the copies that a run makes for its checks are still there for its workers on the same machine.

    Args:
        say: is told of each file before it is copied.
    """
    outer, LocalCopy.keeper = LocalCopy.keeper, _Keeper(say)
    try:
        yield
    finally:
        for copy in LocalCopy.keeper.copies:
            copy.close()
        LocalCopy.keeper = outer


def local_path(folder: str, uri: str) -> str:
    """Return where the copy of a file stands below a folder: names that sources are told by stay as they are."""
    return os.path.join(folder, *uri.split("://", 1))


def _lock_shared(folder: str, states: Mapping[str, FileState]) -> int:
    """Lock a folder together with its other users, make it if it is missing; return the lock's descriptor."""
    while True:
        lock = os.open(folder + _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
            if _is_current(lock, folder) and os.path.isdir(folder):
                return lock
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_current(lock, folder) and not os.path.isdir(folder):
                _fetch(folder, states)
            # On the way from one lock to the other, another process may delete the copy: it is looked for again.
        except BaseException:
            _release(folder, lock, os.getpid())
            raise
        os.close(lock)


def _is_current(lock: int, folder: str) -> bool:
    """Return whether a lock's file still has its name; that of a deleted copy has lost it."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(lock), os.stat(folder + _LOCK))
    return False


def _release(folder: str, lock: int, process: int) -> None:
    """Give a lock up; delete the folder if nobody else has it locked."""
    if process != os.getpid():  # a forked child shares its parent's lock
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_current(lock, folder):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(_unfinished(folder), ignore_errors=True)
            os.remove(folder + _LOCK)
    except BlockingIOError:
        pass
    finally:
        os.close(lock)


def _unfinished(folder: str) -> str:
    return f"{folder}.part"


def _delete_abandoned(root: str) -> None:
    """Delete the copies that no process uses."""
    for name in os.listdir(root):
        if name.endswith(_LOCK):
            with contextlib.suppress(FileNotFoundError):
                path = os.path.join(root, name)
                _release(path.removesuffix(_LOCK), os.open(path, os.O_RDWR), os.getpid())


def _fetch(folder: str, states: Mapping[str, FileState]) -> None:
    _delete_abandoned(os.path.dirname(folder))
    _check_room(os.path.dirname(folder), states)
    part = _unfinished(folder)
    shutil.rmtree(part, ignore_errors=True)
    for uri, state in states.items():
        if LocalCopy.keeper is not None:
            LocalCopy.keeper.say(f"{uri}: {state.size / 1e9:.2f} GB are copied to the local disk, {part}, to be read")
        try:
            _copy(uri, state, local_path(part, uri))
        except RemoteFileError:
            raise
        except OSError as error:
            raise RemoteFileError(f"{uri}: cannot be copied to {part}: {error}") from error
    os.rename(part, folder)


def _check_room(root: str, states: Mapping[str, FileState]) -> None:
    needed, free = sum(state.size for state in states.values()), shutil.disk_usage(root).free
    if needed > free:
        raise RemoteFileError(
            f"{next(iter(states))}: such a file is read on a local disk; its copy takes {needed / 1e9:.2f} GB, and "
            f"{free / 1e9:.2f} GB are free in {root}; make room, set TMPDIR to a folder of a larger disk, or give the "
            "workers one (on Dataflow --disk_size_gb)"
        )


def _copy(uri: str, state: FileState, path: str) -> None:
    """Copy a file, and compare it with its size and its storage's checksum."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    size, crc = 0, 0
    with as_os_errors(uri), files.open_stream(uri) as stream, open(path, "wb") as copy:
        for chunk in files.chunks_of(stream):
            copy.write(chunk)
            size, crc = size + len(chunk), google_crc32c.extend(crc, chunk)
    if size != state.size or stored_crc32c(uri) not in (None, encode_crc32c(crc)):
        raise RemoteFileError(f"{uri}: expected {state.size} bytes as listed, got others: it was replaced; start again")
