"""Which records of an earlier run are still true."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from region_features.planning.catalog import CatalogRow
from region_features.records.item import EarlierRecord

# These are compared image by image instead.
_OF_IMAGES = ("captions_sha256", "boxes_sha256")


def settings_changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Name the first setting that makes every record of an earlier run another one; None if there is none."""
    for name in sorted({*old, *new}):
        before, now = old.get(name), new.get(name)
        if name in _OF_IMAGES:
            before, now = (None, None) if name == "captions_sha256" else (bool(before), bool(now))
        if before != now:
            return f"{name} was {before}, now it is {now}"
    return None


def earlier_record(row: CatalogRow, shards: Sequence[str], checksum: bool) -> EarlierRecord | None:
    """Return the record of an earlier run that may be taken over for an image; None if there is none.

    An image of the same path, size and version is the same. Where the path or the version alone differs, as in a corpus
    that was copied or touched, the content is to be compared.

    Args:
        row: the image.
        shards: paths of the earlier run's shards.
        checksum: compare the content of every image.
    """
    image, earlier = row.ref, row.earlier
    # No hash: the image has no record, or an imported one.
    if earlier is None or not earlier.sha256 or earlier.ref.boxes != image.boxes:
        return None
    if os.path.basename(earlier.ref.uri) != os.path.basename(image.uri) or earlier.ref.size != image.size:
        return None
    listed = (image.uri, image.version), (earlier.ref.uri, earlier.ref.version)
    is_same = listed[0] == listed[1] and bool(image.version) and not checksum
    return EarlierRecord(shards[earlier.shard], earlier.position, "" if is_same else earlier.sha256)
