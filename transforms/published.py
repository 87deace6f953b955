"""Which published shards a rerun may keep: those that are whole and made of the images as they are now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from region_features.records.plan import ImageRef, Plan, ShardKey, input_digest
from region_features.records.stats import STATS_SUFFIX, ShardStats
from transforms import files
from transforms.input_files import content_sha256
from transforms.publication import vouches_for

Published = dict[ShardKey, ShardStats]
_THREADS = 16


def read_published(folder: str, plan: Plan) -> Published:
    """Find the planned shards that stand in `folder`, whole and made of the plan's images with its settings.

    Raises:
        ValueError: a stats file is damaged; names it.
    """
    sizes = files.list_folder(folder)
    keys = [key for key in plan.shards if key.filename in sizes and key.filename + STATS_SUFFIX in sizes]
    paths = [files.join(folder, key.filename + STATS_SUFFIX) for key in keys]
    published = {}
    for key, path, data in zip(keys, paths, files.read_many(paths), strict=True):
        stats = ShardStats.from_json(data, path)
        current = stats.settings == plan.settings and stats.inputs == input_digest(plan.shards[key])
        if current and stats.num_bytes == sizes[key.filename]:
            published[key] = stats
    with ThreadPoolExecutor(_THREADS) as pool:
        paths = [files.join(folder, key.filename) for key in published]
        described = pool.map(vouches_for, published.values(), paths)
        return {key: stats for (key, stats), own in zip(published.items(), described, strict=True) if own}


def find_unchanged(folder: str, earlier: Plan, plan: Plan, note: Callable[[str], None]) -> Published:
    """Find the shards of an earlier plan whose images have another version and the same content.

    A corpus that was copied or touched has new times only: the images are read, and their SHA-256 compared with those
    of what the records, or the failures, were made of.

    Args:
        folder: of the shards.
        earlier: the plan that the shards were made by.
        plan: of the same settings and URIs.
        note: called with one line before images are read.

    Returns:
        The stats of these shards as `plan` makes them, to be published in place of the old ones.

    Raises:
        ValueError: a stats file is damaged; names it.
    """
    differing = {key: refs for key, refs in earlier.shards.items() if refs != plan.shards.get(key, refs)}
    candidates = {}
    for key, stats in (read_published(folder, Plan(earlier.settings, differing)) if differing else {}).items():
        changed = _changed(stats, differing[key], plan.shards[key])
        if changed:
            candidates[key] = stats, changed
    if candidates:
        count = sum(len(changed) for _, changed in candidates.values())
        note(f"{count} images have another time than when they were read: their content is compared")
    unchanged = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for key, (stats, changed) in candidates.items():
            if all(pool.map(_is_same, changed)):
                unchanged[key] = replace(stats, inputs=input_digest(plan.shards[key]))
    return unchanged


def _changed(stats: ShardStats, before: Iterable[ImageRef], now: Iterable[ImageRef]) -> list[tuple[str, str]]:
    """List (URI, SHA-256 of what was read) of images whose version alone differs; none if more differs anywhere."""
    sha256 = stats.image_sha256
    changed = []
    for old, new in zip(before, now, strict=True):
        if old == new:
            continue
        # No hash: the image could not be read, or its record is an imported one.
        if old._replace(version=new.version) != new or new.img_id not in sha256:
            return []
        changed.append((new.uri, sha256[new.img_id]))
    return changed


def _is_same(image: tuple[str, str]) -> bool:
    uri, sha256 = image
    try:
        return content_sha256(uri) == sha256
    except (OSError, ValueError):
        return False


def find_damaged(folder: str, published: Mapping[ShardKey, ShardStats]) -> list[ShardKey]:
    """Read published shards, and list those whose content is not what their stats say.

    Raises:
        OSError: one cannot be read.
    """
    paths = [files.join(folder, key.filename) for key in published]
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = pool.map(files.sha256_of, paths)
        return [key for (key, stats), sha256 in zip(published.items(), digests, strict=True) if sha256 != stats.sha256]
