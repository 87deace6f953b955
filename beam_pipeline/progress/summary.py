"""The summary that ends a run: what was written where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from beam_pipeline.exports import EXPORTS
from beam_pipeline.layout import Layout
from region_features.health.verdict import health_lines
from transforms import files
from transforms.target_files import target_folder

_DAMAGED_INPUTS = {
    "captions": "damaged rows of the captions file",
    "boxes": "damaged rows of the boxes file",
    "import": "damaged rows of imported files",
    "names": "images with names that no record can have",
}


def describe_run(manifest: Mapping[str, Any], layout: Layout) -> str:
    """Describe a run by its manifest, a line an output."""
    lines = [
        f"{name}: {counts['written']} of {counts['in']} images in {counted(counts['shards'], 'shard')}, "
        f"{counts['failed']} failed"
        for name, counts in manifest["sets"].items()
    ]
    listed = manifest["files"]
    if listed["tfrecord"]:
        size = sum(row["bytes"] for row in listed["tfrecord"].values())
        lines.append(f"{layout.shards}: {counted(len(listed['tfrecord']), 'shard')}, {readable_size(size)}")
    for name, row in listed.get("annotations", {}).items():
        lines.append(f"{files.join(layout.annotations, name)}: {readable_size(row['bytes'])}")
    lines.extend(describe_exports(manifest, layout))
    for part, what in _DAMAGED_INPUTS.items():
        failed_rows = manifest.get(part, {}).get("failed_rows", 0)
        if failed_rows:
            lines.append(f"{layout.failures}: {failed_rows} {what}")
    if manifest["counts"]["failed"]:
        lines.append(f"{layout.failures}: {manifest['counts']['failed']} failed, with the reasons")
    lines.extend(describe_health(manifest))
    return "\n".join(lines)


def describe_health(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Say whether the records look as the trained network gives them; nothing where there are none."""
    if "health" in manifest:
        yield from health_lines(manifest["health"], "detector_config_sha256" in manifest.get("settings", {}))


def describe_exports(manifest: Mapping[str, Any], layout: Layout) -> Iterator[str]:
    """Describe what was built from the shards, a line a target."""
    for export in (kind() for kind in EXPORTS):
        rows = manifest["files"].get(export.name, {})
        for target in export.targets(list(manifest["sets"]), manifest.get("settings", {})):
            if target.name in rows:
                row, folder = rows[target.name], target_folder(layout.output, target)
                own_folder = target.folder.endswith(f"/{target.name}")
                names = target.files or (target.contents,)
                place = folder if own_folder else ", ".join(files.join(folder, name) for name in names)
                yield f"{place}: {export.describe(row)}, {readable_size(sum(row['files'].values()))}"


def counted(count: int, noun: str) -> str:
    """Return `1 shard`, `2 shards`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def readable_size(size: int) -> str:
    """Return a number of bytes as a person reads it."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"
