"""Check and unpack zip archives on a local disk; unfinished files and folders have temporary names."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from zipfile import ZipInfo

from region_features.images.zip_archive import MAC_LEFTOVERS, list_entries

_CHUNK = 1 << 20
_UNFINISHED = ".tmp-"
# Most bytes that an archive may unpack to, unless the caller says another number: so many times its own size, within
# these bounds. COCO's largest has 13 GB of photographs at a ratio of 1; its captions, JSON, have a ratio of 5.
MAX_RATIO, FREE_BYTES, MAX_BYTES = 20, 1_000_000_000, 64_000_000_000

# Called with the bytes done so far and the bytes of the whole.
Progress = Callable[[int, int], None]


class UnpackedSizeError(ValueError):
    """An archive says that it unpacks to more than is allowed; the message names the archive and both sizes."""


def list_files(path: str) -> list[ZipInfo]:
    """List the files of an archive; ValueError if it is no zip archive, or cut off."""
    try:
        return list_entries(path)
    except ValueError as error:
        raise ValueError(f"{path}: expected a zip archive, got: {error}") from error


def check_unpacked_size(path: str, max_bytes: int | None = None) -> None:
    """Add up the sizes in an archive's directory; no file unpacks to more than its size there.

    Args:
        path: of the archive.
        max_bytes: most bytes that it may unpack to; default `MAX_RATIO` times its own size, at least `FREE_BYTES`
            and at most `MAX_BYTES`.

    Raises:
        UnpackedSizeError: it unpacks to more.
        ValueError: it is no zip archive, or cut off.
    """
    packed, unpacked = os.path.getsize(path), sum(info.file_size for info in list_files(path))
    limit = min(max(MAX_RATIO * packed, FREE_BYTES), MAX_BYTES) if max_bytes is None else max_bytes
    if unpacked > limit:
        raise UnpackedSizeError(
            f"{path}: expected an archive that unpacks to at most {limit / 1e9:.1f} GB, got {unpacked / 1e9:.1f} GB "
            f"from {packed / 1e9:.3f} GB"
        )


def check_archive(path: str, progress: Progress) -> int:
    """Check length and CRC of every file in an archive, and return their number.

    Raises:
        ValueError: it is no zip archive, or damaged.
    """
    entries = list_files(path)
    done, total = 0, sum(info.file_size for info in entries)
    with zipfile.ZipFile(path) as archive:
        for info in entries:
            for chunk in _unpacked(archive, info):
                done += len(chunk)
                progress(done, total)
    return len(entries)


def unpack_folder(path: str, parent: str, name: str, progress: Progress) -> int:
    """Unpack an archive of one folder, `name`, into `parent`; the folder gets its name when it is whole.

    Files that a killed attempt unpacked are checked and kept. A folder that exists must agree with the archive.

    Returns:
        Number of files in the folder.

    Raises:
        ValueError: the archive is damaged, holds anything but plain files in `name`, or differs from the folder.
        OSError: the disk is too small, or cannot be written.
    """
    entries = _plain_files(path, name)
    target, work = os.path.join(parent, name), os.path.join(parent, f"{_UNFINISHED}{name}")
    if os.path.lexists(target):
        # Their CRCs were checked when the folder was made.
        wrong = [relative for relative, info in entries.items() if not _has_size(os.path.join(target, relative), info)]
        if wrong:
            raise ValueError(
                f"{target}: {len(wrong)} of {len(entries)} files are missing or differ from the archive, {wrong[0]} "
                "for one; move the folder away and run again"
            )
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
        for file in (os.path.join(folder, name) for name in names):
            if os.path.relpath(file, work) not in entries:
                os.remove(file)
    os.sync()
    os.rename(work, target)
    return len(entries)


def unpack_file(path: str, name: str, folder: str) -> None:
    """Unpack the file `name`, from whatever folder of an archive, into `folder`; it gets its name when it is whole.

    Raises:
        ValueError: the archive is damaged, does not hold the file once, or differs from a file that exists.
        OSError: the disk is too small, or cannot be written.
    """
    entries = [info for info in list_files(path) if os.path.basename(info.filename) == name]
    if len(entries) != 1:
        raise ValueError(f"{path}: expected one file {name} in it, found {len(entries)}")
    target, work = os.path.join(folder, name), os.path.join(folder, f"{_UNFINISHED}{name}")
    if os.path.lexists(target):
        if not _is_whole(target, entries[0]):
            raise ValueError(f"{target}: expected the file of {path}, found another one; move it away")
        return
    check_room(folder, entries[0].file_size)
    with zipfile.ZipFile(path) as archive:
        _write(archive, entries[0], work)
    os.sync()
    os.rename(work, target)


def check_room(folder: str, needed: int) -> None:
    """Raise an OSError if the disk of `folder` has fewer than `needed` free bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"{folder}: expected {needed / 1e9:.2f} GB of free disk, found {free / 1e9:.2f} GB; make room or fetch less"
        )


def _plain_files(path: str, name: str) -> dict[str, ZipInfo]:
    """Return the archive's files by their paths below the folder `name`, and refuse all others."""
    entries: dict[str, ZipInfo] = {}
    for info in list_files(path):
        if info.filename.startswith(f"{MAC_LEFTOVERS}/"):
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


def _unpacked(archive: zipfile.ZipFile, info: ZipInfo) -> Iterator[bytes]:
    """Yield a file's content in pieces, at most of the declared length; the CRC is checked at the end."""
    try:
        with archive.open(info) as stream:
            seen = 0
            while chunk := stream.read(_CHUNK):
                seen += len(chunk)
                if seen > info.file_size:
                    break
                yield chunk
        if seen != info.file_size:
            raise zipfile.BadZipFile(f"{seen} bytes for the {info.file_size} it declares")
    except Exception as error:  # each packing method raises its own classes
        raise ValueError(f"{archive.filename}: damaged at {info.filename}: {error}") from error


def _write(archive: zipfile.ZipFile, info: ZipInfo, file: str) -> None:
    with open(file, "wb") as stream:
        stream.writelines(_unpacked(archive, info))


def _is_whole(file: str, info: ZipInfo) -> bool:
    if not _has_size(file, info):
        return False
    crc = 0
    with open(file, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc == info.CRC


def _has_size(file: str, info: ZipInfo) -> bool:
    return os.path.isfile(file) and os.path.getsize(file) == info.file_size
