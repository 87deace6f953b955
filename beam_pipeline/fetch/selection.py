"""Which files of an output are fetched, by its manifest."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from beam_pipeline.exports import CAPTIONS, SHARDS
from beam_pipeline.usage import UsageError
from region_features.records.plan import SHARDS_FOLDER
from region_features.records.stats import STATS_SUFFIX
from transforms.files import TEMP_PREFIX
from transforms.manifest import ANNOTATIONS_FOLDER, FAILURES, PLAN

_SHA256 = re.compile(r"[0-9a-f]{64}")


class ListedFile(NamedTuple):
    """A file of an output: its path below the output folder, `/` between names, bytes, and hex SHA-256."""

    path: str
    num_bytes: int
    sha256: str


def select_files(manifest: Mapping[str, Any], outputs: Sequence[str] | None) -> list[ListedFile]:
    """List the files of some outputs, or of all.

    Args:
        manifest: of the output.
        outputs: names of sections of `manifest["files"]`, `captions` for `annotations`; None for every file.

    Raises:
        UsageError: the manifest has no such output.
        ValueError: a file's row cannot be used.
    """
    digests = manifest["digests"]
    paths = digests if outputs is None else _paths_of(manifest, outputs)
    return [_listed(path, digests.get(path)) for path in sorted(paths)]


def _paths_of(manifest: Mapping[str, Any], outputs: Sequence[str]) -> Iterator[str]:
    sections = {name: rows for name, rows in manifest["files"].items() if rows}
    names = [CAPTIONS if name == ANNOTATIONS_FOLDER else name for name in sections]
    for output in dict.fromkeys(CAPTIONS if name == ANNOTATIONS_FOLDER else name for name in outputs):
        if output not in names:
            nearest = difflib.get_close_matches(output, names, n=1, cutoff=0.6)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise UsageError(f"--outputs: expected some of {','.join(names)}, which are there, got {output!r}{hint}")
        rows = sections[ANNOTATIONS_FOLDER if output == CAPTIONS else output]
        if output == SHARDS:
            yield from (PLAN, FAILURES)
            for name in rows:
                yield from (f"{SHARDS_FOLDER}/{name}", f"{SHARDS_FOLDER}/{name}{STATS_SUFFIX}")
        else:
            yield from (path for row in rows.values() for path in row["paths"])


def is_inside(path: str) -> bool:
    """Return whether a path that was read somewhere stays within the folder that it is put below."""
    parts = path.split("/")
    inside = all(part not in ("", ".", "..") and not part.startswith(TEMP_PREFIX) for part in parts)
    return inside and "\\" not in path and "\0" not in path


def _listed(path: str, row: Any) -> ListedFile:
    if not is_inside(path):
        raise ValueError(f"manifest.json: expected paths of files within the output, got {path!r}")
    try:
        size, sha256 = row["bytes"], row["sha256"]
        if type(size) is not int or size < 0 or not _SHA256.fullmatch(sha256):
            raise TypeError("a field of another form")
    except (KeyError, TypeError) as error:
        raise ValueError(f"manifest.json, {path}: expected its bytes and SHA-256, got {row!r}") from error
    return ListedFile(path, size, sha256)
