"""Stand-ins for remote storage: a bucket that is a local folder, and files of a storage emulator."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.localfilesystem import LocalFileSystem


class BucketFileSystem(LocalFileSystem):
    """Map `bucket://NAME` to a local folder that only Beam's FileSystems knows; a test sets `folder`."""

    folder = Path()

    @classmethod
    def scheme(cls) -> str:
        return "bucket"

    @classmethod
    def local(cls, path: str) -> str:
        return str(cls.folder / path.removeprefix("bucket://"))

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def _list(self, dir_or_prefix: str) -> Any:
        for path in Path(self.local(dir_or_prefix)).rglob("*"):
            yield FileMetadata(f"bucket://{path.relative_to(self.folder)}", path.stat().st_size)

    def _path_open(self, path: str, *arguments: Any, **options: Any) -> Any:
        return super()._path_open(self.local(path), *arguments, **options)

    def create(self, path: str, *arguments: Any, **options: Any) -> Any:
        os.makedirs(os.path.dirname(self.local(path)), exist_ok=True)
        return self._path_open(path, "wb", *arguments, **options)

    def rename(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        for source, target in zip(source_file_names, destination_file_names, strict=True):
            os.rename(self.local(source), self.local(target))

    def exists(self, path: str) -> bool:
        return os.path.isfile(self.local(path))

    def size(self, path: str) -> int:
        return os.path.getsize(self.local(path))

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            os.remove(self.local(path))


def upload(source: Path, target: str) -> None:
    """Copy a local file to a path of any file system that Beam knows."""
    with FileSystems.create(target) as stream:
        stream.write(source.read_bytes())


def upload_folder(source: Path, target: str) -> None:
    """Copy every file below a local folder."""
    for path in (path for path in source.rglob("*") if path.is_file()):
        upload(path, f"{target}/{path.relative_to(source)}")


def download(prefix: str) -> dict[str, bytes]:
    """Read every file below a path: relative path -> content."""
    contents = {}
    for entry in FileSystems.match([f"{prefix}/**"])[0].metadata_list:
        with FileSystems.open(entry.path) as stream:
            contents[entry.path.removeprefix(prefix + "/")] = stream.read()
    return contents
