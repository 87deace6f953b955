"""A detectron2 config as a run carries it: read once, bases merged in, plain values only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DetectorConfig:
    """The content of a detectron2 YAML file and its bases; detectron2's defaults are not filled in."""

    source: str  # the file's name, for messages
    values: Mapping[str, Any]  # nested dicts of texts, numbers, truth values, None and lists

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the values, independent of the layout of their files."""
        return hashlib.sha256(json.dumps(self.values, sort_keys=True).encode()).hexdigest()

    def value(self, name: str, default: Any) -> Any:
        """Return a value by its dotted name, `default` if the files do not set it."""
        value: Any = self.values
        for part in name.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return default
            value = value[part]
        return value
