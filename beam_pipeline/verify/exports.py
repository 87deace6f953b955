"""Exports against the shards that they were built from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from beam_pipeline.exports import EXPORTS
from beam_pipeline.preflight.output_folder import OutputFolder
from beam_pipeline.verify.shards import ShardReport
from region_features.exports.base import Copy, Export, ShardImage, Target
from region_features.exports.lmdb import LMDBS_FOLDER
from region_features.records.audit import Audit
from region_features.records.build_note import BuildNote
from region_features.validation.record import Problem
from transforms import files
from transforms.target_files import target_folder, target_sizes


@dataclass(frozen=True)
class OpenTarget:
    """A target that is current, open for comparison with the shards."""

    export: Export
    target: Target
    copy: Copy


def open_targets(output: OutputFolder, audit: Audit) -> tuple[list[OpenTarget], list[Problem]]:
    """Open the targets of a local output; those that are stale or damaged become problems, and are not compared."""
    opened: list[OpenTarget] = []
    problems: list[Problem] = []
    if output.plan is None or files.is_remote(output.layout.output):
        return opened, problems
    known_notes = set()
    for export in (kind() for kind in EXPORTS):
        for target in export.targets(list(audit.shards_of_set), output.plan.settings):
            folder = target_folder(output.layout.output, target)
            known_notes.add(files.join(folder, target.note))
            if set(target.names) & target_sizes(folder, target).keys():
                try:
                    note = _current_note(target, folder, audit)
                    opened.append(OpenTarget(export, target, export.open(target, folder, note)))
                except (ImportError, ValueError, OSError, KeyError) as error:
                    problems.append(Problem(export.name, str(error)))
    problems.extend(_strays(output.layout.output, known_notes))
    return opened, problems


def _current_note(target: Target, folder: str, audit: Audit) -> BuildNote:
    """Read the note of a target that is whole and current; otherwise raise ValueError."""
    path, sizes = files.join(folder, target.parts[0]), target_sizes(folder, target)
    if target.note not in sizes:
        raise ValueError(f"{path}: expected {target.note} beside it, which says what it was built from; build it again")
    note = BuildNote.from_json(files.read_bytes(files.join(folder, target.note)), files.join(folder, target.note))
    if note.source_digest != audit.source_digest(target.sets):
        raise ValueError(f"{path}: stale: the shards are no longer those that it was built from; build it again")
    for name in target.parts:
        if sizes.get(name) != note.files.get(name):
            got = sizes.get(name, "not all of its files" if name.endswith("/") else "no such file")
            raise ValueError(
                f"{files.join(folder, name)}: expected {note.files.get(name)} bytes ({target.note}), got {got}"
            )
    return note


def _strays(output: str, known_notes: set[str]) -> Iterator[Problem]:
    """Look for LMDBs of sets that the plan does not have."""
    folder = files.join(output, *LMDBS_FOLDER.split("/"))
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        notes = [path for path in known_notes if os.path.dirname(path) == os.path.join(folder, name)]
        if not notes and os.path.isdir(os.path.join(folder, name)):
            message = "the plan has no set that belongs to it; is it left from another run?"
            yield Problem("lmdb", f"{os.path.join(folder, name)}: {message}")


def check_rest(opened: OpenTarget, output: OutputFolder, reports: Sequence[ShardReport]) -> Iterator[Problem]:
    """Look for content of a target that belongs to no image of its sets."""
    images: list[ShardImage] = []
    own = [report for report in reports if report.set_name in opened.target.sets]
    for report in own:
        stats = output.shards[report.shard].stats
        if report.whole or stats is None:
            splits = {image.img_id: image.split for image in report.captioned}
            images.extend(ShardImage(report.shard, img_id, splits.get(img_id, "")) for img_id in report.ids)
        else:
            images.extend(ShardImage(report.shard, img_id, "") for img_id in stats.ids)
    yield from opened.copy.check_rest(images, all(report.whole for report in own))
