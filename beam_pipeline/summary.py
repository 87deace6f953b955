"""The summary that ends a run: what was written where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from beam_pipeline.exports import EXPORTS
from beam_pipeline.layout import Layout
from transforms import files
from transforms.exports import target_folder

_DESCRIBED_FILES = (("captions", "the captions file"), ("boxes", "the boxes file"), ("import", "imported files"))


def describe_run(manifest: Mapping[str, Any], layout: Layout) -> str:
    """Describe a run by its manifest, a line an output."""
    lines = [
        f"{name}: {counts['written']} of {counts['in']} images in {counts['shards']} shards, {counts['failed']} failed"
        for name, counts in manifest["sets"].items()
    ]
    listed = manifest["files"]
    if listed["tfrecord"]:
        size = sum(row["bytes"] for row in listed["tfrecord"].values())
        lines.append(f"{layout.shards}: {len(listed['tfrecord'])} shards, {readable_size(size)}")
    for name, row in listed.get("annotations", {}).items():
        lines.append(f"{files.join(layout.annotations, name)}: {readable_size(row['bytes'])}")
    lines.extend(describe_exports(manifest, layout))
    for part, what in _DESCRIBED_FILES:
        failed_rows = manifest.get(part, {}).get("failed_rows", 0)
        if failed_rows:
            lines.append(f"{layout.failures}: {failed_rows} damaged rows of {what}")
    if manifest["counts"]["failed"]:
        lines.append(f"{layout.failures}: {manifest['counts']['failed']} failed, with the reasons")
    return "\n".join(lines)


def describe_exports(manifest: Mapping[str, Any], layout: Layout) -> Iterator[str]:
    """Describe what was built from the shards, a line a target."""
    for export in (kind() for kind in EXPORTS):
        rows = manifest["files"].get(export.name, {})
        for target in export.targets(list(manifest["sets"]), manifest.get("settings", {})):
            if target.name in rows:
                row, folder = rows[target.name], target_folder(layout.output, target)
                own_folder = target.folder.endswith(f"/{target.name}")
                place = folder if own_folder else ", ".join(files.join(folder, name) for name in target.files)
                yield f"{place}: {export.describe(row)}, {readable_size(sum(row['files'].values()))}"


def readable_size(size: int) -> str:
    """Return a number of bytes as a person reads it."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"
