"""Files copied to a local folder in pieces, several at a time; a file appears once its SHA-256 is right."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import NamedTuple

from beam_pipeline.fetch.selection import ListedFile
from transforms import files

# Pieces of one file travel side by side, and a cut loses at most those that were on their way.
PIECE_BYTES = 64 << 20
PART_PREFIX = f"{files.TEMP_PREFIX}fetch-"
_CHUNK = 4 << 20
_THREADS = 16


class Piece(NamedTuple):
    """A part of a file: its number, and its first byte and length."""

    file: ListedFile
    number: int
    offset: int
    length: int


class _PartFile:
    """A file that is on its way: a sparse file of its whole size, and beside it a byte a piece that has arrived.

    A file of one piece has no such bytes: it begins anew.

    Args:
        folder: the local folder that it goes to.
        file: which.
    """

    def __init__(self, folder: str, file: ListedFile) -> None:
        self.path = local_path(folder, file)
        head, name = os.path.split(self.path)
        self._part = os.path.join(head, f"{PART_PREFIX}{file.sha256[:16]}-{name}")
        self._marks = f"{self._part}.done"
        self._file = file
        self._lock = threading.Lock()
        os.makedirs(head, exist_ok=True)
        count = max(1, -(-file.num_bytes // PIECE_BYTES))
        arrived = self._arrived(count) if count > 1 else b"\0"
        self.pieces = [
            Piece(file, number, number * PIECE_BYTES, min(PIECE_BYTES, file.num_bytes - number * PIECE_BYTES))
            for number in range(count)
            if not arrived[number]
        ]
        self._missing = len(self.pieces)

    def _arrived(self, count: int) -> bytes:
        try:
            with open(self._marks, "rb") as stream:
                marks = stream.read()
            if os.path.getsize(self._part) == self._file.num_bytes and len(marks) == count:
                return marks
        except FileNotFoundError:
            pass
        with open(self._part, "wb") as stream:
            stream.truncate(self._file.num_bytes)
        with open(self._marks, "wb") as stream:
            stream.write(bytes(count))
        return bytes(count)

    def write(self, piece: Piece, chunks: Iterable[bytes]) -> bool:
        """Write a piece; return whether it was the last one missing.

        Raises:
            OSError: it is shorter than it should be, or cannot be written.
        """
        offset = piece.offset
        with _opened(self._part) as descriptor:
            for chunk in chunks:
                offset += os.pwrite(descriptor, chunk, offset)
        if offset != piece.offset + piece.length:
            raise OSError(f"{piece.file.path}: expected {piece.file.num_bytes} bytes, got fewer")
        if piece.length < self._file.num_bytes:
            with _opened(self._marks) as descriptor:
                os.pwrite(descriptor, b"\1", piece.number)
        with self._lock:
            self._missing -= 1
            return not self._missing

    def publish(self) -> None:
        """Give the whole file its place.

        Raises:
            OSError: its SHA-256 is another than listed; what has arrived is deleted.
        """
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._marks)  # first: should the process end here, all of it is fetched again
        if files.digest_of(self._part) != {"bytes": self._file.num_bytes, "sha256": self._file.sha256}:
            os.remove(self._part)
            raise OSError(f"{self._file.path}: expected the SHA-256 that manifest.json lists, got another")
        files.publish_file(self._part, self.path)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def local_path(folder: str, file: ListedFile) -> str:
    """Return where a file of an output stands below a local folder."""
    return os.path.join(folder, *file.path.split("/"))


def is_there(folder: str, file: ListedFile) -> bool:
    """Return whether a file stands in a local folder, whole and right."""
    path = local_path(folder, file)
    return os.path.isfile(path) and files.digest_of(path) == {"bytes": file.num_bytes, "sha256": file.sha256}


def find_missing(folder: str, listed: Sequence[ListedFile]) -> list[ListedFile]:
    """List the files that do not stand in a local folder, or are others; several are read at a time."""
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda file: is_there(folder, file), listed)
        return [file for file, right in zip(listed, found, strict=True) if not right]


def fetch_files(
    source: str, folder: str, missing: Sequence[ListedFile], progress: Callable[[int, int | None], None]
) -> None:
    """Copy files from an output to a local folder; what an earlier call has begun goes on.

    Args:
        source: the output, local or remote.
        folder: local.
        missing: which files.
        progress: called with the bytes that have arrived, and those of all these files.

    Raises:
        Exception: the first error of a file system; whole files and pieces stay.
    """
    total = sum(file.num_bytes for file in missing)
    parts = {file: _PartFile(folder, file) for file in missing}
    pieces = [piece for part in parts.values() for piece in part.pieces]
    arrived = total - sum(piece.length for piece in pieces)
    lock, stopped = threading.Lock(), threading.Event()

    def read(piece: Piece) -> Iterator[bytes]:
        nonlocal arrived
        left = piece.length
        with files.open_stream(files.join(source, *piece.file.path.split("/"))) as stream:
            stream.seek(piece.offset)
            while left and (chunk := stream.read(min(left, _CHUNK))) and not stopped.is_set():
                left -= len(chunk)
                with lock:
                    arrived += len(chunk)
                    progress(arrived, total)
                yield chunk

    def fetch(piece: Piece) -> None:
        if not stopped.is_set() and parts[piece.file].write(piece, read(piece)):
            parts[piece.file].publish()

    for part in parts.values():
        if not part.pieces:  # its last piece arrived just before the process ended
            part.publish()
    pool = ThreadPoolExecutor(_THREADS)
    try:
        done, _ = wait([pool.submit(fetch, piece) for piece in pieces], return_when=FIRST_EXCEPTION)
        for piece_done in done:
            piece_done.result()
    finally:
        stopped.set()  # after an error, or Ctrl-C, the others stop at their next chunk
        pool.shutdown(wait=False, cancel_futures=True)
