"""Zip archives, good and hostile."""

from __future__ import annotations

import io
import stat
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path


def zip_bytes(entries: Iterable[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of (name, content) in this order, the names as they are."""
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", method) as archive:
        warnings.simplefilter("ignore", UserWarning)  # of names that come twice
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return stream.getvalue()


def zip_folder(folder: Path, prefix: str, method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of the files in `folder`, below `prefix`."""
    return zip_bytes(((f"{prefix}{path.name}", path.read_bytes()) for path in sorted(folder.iterdir())), method)


def zip_with_link(name: str, target: str) -> bytes:
    """An archive of one symbolic link."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.create_system = 3
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, target)
    return stream.getvalue()


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    """The archive with bytes replaced, wherever they stand."""
    assert old in data and len(old) == len(new)
    return data.replace(old, new)


def with_directory_field(data: bytes, offset: int, value: bytes) -> bytes:
    """The archive with a field of its first directory record overwritten."""
    start = data.index(b"PK\x01\x02") + offset
    return data[:start] + value + data[start + len(value) :]
