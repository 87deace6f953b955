"""Zip archives checked and unpacked on a local disk: nothing outside the target, nothing half-made under its name."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping

_CHUNK = 1 << 20
_UNFINISHED = ".tmp-"
# What macOS adds to the zips it makes.
_MAC_LEFTOVERS = "__MACOSX/"

Progress = Callable[[int, int], None]


def count_entries(path: str) -> int:
    """How many files the archive says it holds.

    Raises:
        ValueError: it is no zip archive, or cut off.
    """
    return len(_files(path))


def check_archive(path: str, progress: Progress) -> int:
    """Unpack every entry to nowhere, and check its length and CRC.

    Args:
        progress: is told the bytes that are checked and those of the whole.

    Returns:
        How many files the archive holds.

    Raises:
        ValueError: it is no zip archive, or damaged.
    """
    entries = _files(path)
    done, total = 0, sum(info.file_size for info in entries)
    with zipfile.ZipFile(path) as archive:
        for info in entries:
            for chunk in _unpacked(archive, info):
                done += len(chunk)
                progress(done, total)
    return len(entries)


def unpack_folder(path: str, parent: str, name: str, progress: Progress) -> int:
    """Unpack an archive that holds one folder; the folder appears under its name when it is whole.

    What a killed attempt unpacked is checked and kept. A folder that is there already must agree with the archive.

    Args:
        path: the archive; all its entries lie in the folder `name`.
        parent: where the folder goes; made where missing.
        progress: is told the bytes that are there and those of the whole.

    Returns:
        How many files the folder holds.

    Raises:
        ValueError: the archive is damaged, holds anything but plain files in `name`, or differs from the folder.
        OSError: the disk is too small, or cannot be written.
    """
    entries = _plain_files(path, name)
    target, work = os.path.join(parent, name), os.path.join(parent, f"{_UNFINISHED}{name}")
    if os.path.lexists(target):
        _compare(target, entries)
        return len(entries)
    os.makedirs(work, exist_ok=True)
    kept = {relative for relative, info in entries.items() if _is_whole(os.path.join(work, relative), info)}
    total = sum(info.file_size for info in entries.values())
    done = sum(entries[relative].file_size for relative in kept)
    check_room(parent, total - done)
    with zipfile.ZipFile(path) as archive:
        for relative, info in entries.items():
            if relative not in kept:
                file = os.path.join(work, relative)
                os.makedirs(os.path.dirname(file), exist_ok=True)
                _write(archive, info, file)
                done += info.file_size
            progress(done, total)
    for folder, _, names in os.walk(work):  # a killed attempt may have unpacked another archive
        for file in (os.path.join(folder, found) for found in names):
            if os.path.relpath(file, work) not in entries:
                os.remove(file)
    os.sync()
    os.rename(work, target)
    return len(entries)


def unpack_file(path: str, name: str, folder: str) -> None:
    """Unpack one file of an archive, whatever folder of it holds the file, to `folder`/`name` when it is whole.

    Raises:
        ValueError: the archive is damaged, has no such file, or another one than the file that is there already.
        OSError: the disk is too small, or cannot be written.
    """
    found = [info for info in _files(path) if os.path.basename(info.filename) == name]
    if len(found) != 1:
        raise ValueError(f"{path}: expected one file {name} in it, found {len(found)}")
    info = found[0]
    target, work = os.path.join(folder, name), os.path.join(folder, f"{_UNFINISHED}{name}")
    if os.path.lexists(target):
        if not _is_whole(target, info):
            raise ValueError(f"{target}: expected the file of {path}, found another one; move it away")
        return
    check_room(folder, info.file_size)
    with zipfile.ZipFile(path) as archive:
        _write(archive, info, work)
    os.sync()
    os.rename(work, target)


def check_room(folder: str, needed: int) -> None:
    """Refuse to begin what cannot fit.

    Raises:
        OSError: the disk of `folder` has less than `needed` bytes left.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"{folder}: expected {needed / 1e9:.2f} GB of free disk, found {free / 1e9:.2f} GB; make room or fetch less"
        )


def _files(path: str) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [info for info in archive.infolist() if not info.is_dir()]
    except OSError:
        raise
    except Exception as error:  # struct.error, UnicodeDecodeError, NotImplementedError, ... beside BadZipFile
        raise ValueError(f"{path}: expected a zip archive, got: {error}") from error


def _plain_files(path: str, name: str) -> dict[str, zipfile.ZipInfo]:
    """The archive's files by their path below the folder `name`."""
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in _files(path):
        if info.filename.startswith(_MAC_LEFTOVERS):
            continue
        top, _, relative = info.filename.partition("/")
        parts = relative.split("/")
        kind = stat.S_IFMT(info.external_attr >> 16)
        safe = top == name and not {"", ".", ".."} & set(parts) and "\\" not in relative and kind in (0, stat.S_IFREG)
        if not safe or relative in entries:
            raise ValueError(
                f"{path}: expected plain files in {name}/, each once, got {info.filename!r}; nothing was unpacked, "
                "fetch the archive from somewhere else"
            )
        entries[relative] = info
    if not entries:
        raise ValueError(f"{path}: expected files in {name}/, found none")
    return entries


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """The entry's content in pieces; never more than it declares, its CRC checked."""
    try:
        with archive.open(info) as stream:
            seen = 0
            while chunk := stream.read(_CHUNK):
                seen += len(chunk)
                yield chunk
        if seen != info.file_size:
            raise zipfile.BadZipFile(f"{seen} bytes for the {info.file_size} it declares")
    except Exception as error:  # each packing method raises errors of its own
        raise ValueError(f"{archive.filename}: damaged at {info.filename}: {error}") from error


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: str) -> None:
    with open(file, "wb") as stream:
        for chunk in _unpacked(archive, info):
            stream.write(chunk)


def _is_whole(file: str, info: zipfile.ZipInfo) -> bool:
    if not os.path.isfile(file) or os.path.getsize(file) != info.file_size:
        return False
    crc = 0
    with open(file, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc == info.CRC


def _compare(folder: str, entries: Mapping[str, zipfile.ZipInfo]) -> None:
    """A folder under its final name is trusted by names and sizes: its bytes were checked when it was made."""
    wrong = [
        relative
        for relative, info in entries.items()
        if not os.path.isfile(file := os.path.join(folder, relative)) or os.path.getsize(file) != info.file_size
    ]
    if wrong:
        raise ValueError(
            f"{folder}: {len(wrong)} of {len(entries)} files are missing or differ from the archive, {wrong[0]} for "
            "one; move the folder away and run again"
        )
