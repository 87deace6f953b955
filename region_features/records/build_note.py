"""BuildNote: what an export was built from, written beside it; says whether the export is current."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from region_features.records.json_text import parse_json

NOTE_SUFFIX = ".source.json"


@dataclass(frozen=True)
class BuildNote:
    """What an export was built from, and what it consists of."""

    source_digest: str  # hex digest of the shards that it was built from
    settings: Mapping[str, Any]  # everything else that decides its bytes
    files: Mapping[str, int]  # file name -> bytes
    counts: Mapping[str, Any]  # what the files hold, `records` for one
    sha256: Mapping[str, str]  # file name -> hex digest of its content

    def is_current(self, source_digest: str, settings: Mapping[str, Any], sizes: Mapping[str, int]) -> bool:
        """Return whether a new build would give the files that are there, by their `sizes` in bytes."""
        whole = all(sizes.get(name) == size for name, size in self.files.items())
        return whole and self.source_digest == source_digest and dict(self.settings) == dict(settings)

    def to_json(self) -> bytes:
        """Return the note's file content."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, source: str) -> BuildNote:
        """Read a note back; ValueError if `source` is no such note."""
        try:
            note = cls(**parse_json(data))
            maps = (note.settings, note.files, note.counts, note.sha256)
            if not isinstance(note.source_digest, str) or not all(isinstance(part, dict) for part in maps):
                raise TypeError("a field of another type")
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{source}: expected the note of what was built from which shards, got something else ({error}); "
                "build it again"
            ) from error
        return note
