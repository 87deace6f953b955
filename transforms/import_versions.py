"""Which version of a file of features a record is of, and whether that version is still there once it was read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from region_features.records.plan import ImageRef
from region_features.sources.base import Source
from transforms import files
from transforms.input_files import find_states, state_of_object
from transforms.remote_listing import describe_file


class ImportVersions:
    """The versions of files as they are now; that of a file with many records is asked for once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], str] = {}

    def of(self, source: Source, place: str) -> str:
        """Return what changes when the files of a record do.

        Empty for a remote record with files of its own, of which each would cost a request.
        """
        paths = source.files(place)
        if source.own_files:
            return "" if files.is_remote(source.path) else _version_of(paths)
        if paths not in self._known:
            self._known[paths] = _version_of(paths)
        return self._known[paths]


def _version_of(paths: tuple[str, ...]) -> str:
    if files.is_remote(paths[0]):
        return " ".join(state_of_object(describe_file(path)).version for path in paths)
    return " ".join(state.version for _, state in find_states(paths))


def refuse_replaced(read: Iterable[tuple[ImageRef, str, str]], opened: Mapping[str, Source]) -> None:
    """Compare the files of records that were read with what was listed before the start.

    Args:
        read: each image, with the path of its source and the place of its record there.
        opened: the sources by path.

    Raises:
        OSError: one was replaced, changed or deleted since; names the source.
    """
    now = ImportVersions()
    for ref, path, place in read:
        if ref.version and path in opened and now.of(opened[path], place) != ref.version:
            raise OSError(
                f"{path}: expected the file that was listed before the start, got another or none: it was replaced "
                "during the run; put it back, or start afresh with --overwrite"
            )
