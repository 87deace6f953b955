"""A dataset for tests with spawned readers, which import this file: it imports little."""

from __future__ import annotations

import os
from typing import Any

from region_features import RegionFeatures


class ItemsWithPid:
    """All items, each with the id of the process that read it."""

    def __init__(self, features: RegionFeatures) -> None:
        self.features = features

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> tuple[int, dict[str, Any]]:
        key = self.features.keys[index]
        assert self.features[key]["img_id"] == self.features[index]["img_id"]
        return os.getpid(), self.features[index]


def unbatch(batch: list[Any]) -> Any:
    (item,) = batch
    return item
