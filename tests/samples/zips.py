"""Zip archives, good and hostile."""

from __future__ import annotations

import io
import stat
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path


def zip_bytes(entries: Iterable[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """Build an archive of (name, content) in this order, with unchecked names."""
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", method) as archive:
        warnings.simplefilter("ignore", UserWarning)  # repeated names
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return stream.getvalue()


def zip_folder(folder: Path, prefix: str, method: int = zipfile.ZIP_STORED) -> bytes:
    """Build an archive of the files in `folder`, with `prefix` before their names."""
    return zip_bytes(((f"{prefix}{path.name}", path.read_bytes()) for path in sorted(folder.iterdir())), method)


def zip_with_link(name: str, target: str) -> bytes:
    """Build an archive of a single symbolic link."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.create_system = 3
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, target)
    return stream.getvalue()


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    """Replace bytes of an archive wherever they occur."""
    assert old in data and len(old) == len(new)
    return data.replace(old, new)


def with_directory_field(data: bytes, offset: int, value: bytes) -> bytes:
    """Overwrite a field of the first record in an archive's directory."""
    start = data.index(b"PK\x01\x02") + offset
    return data[:start] + value + data[start + len(value) :]
