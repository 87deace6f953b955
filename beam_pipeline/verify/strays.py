"""Files in an output folder that belong to nothing: left over, unfinished, or somebody else's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from beam_pipeline.exports import EXPORT_NAMES
from beam_pipeline.output_lock import LOCK_FILES
from beam_pipeline.preflight.output_folder import OutputFolder
from region_features.exports.base import FEATURES_FOLDER
from region_features.formats.listing import LISTING_SUFFIX
from region_features.records.plan import SHARDS_FOLDER
from region_features.validation.record import Problem
from transforms import files
from transforms.manifest import ANNOTATIONS_FOLDER, MANIFEST, MANIFEST_DIGEST, PLAN
from transforms.remote_listing import match_files

_OWN_FOLDERS = (SHARDS_FOLDER, ANNOTATIONS_FOLDER, FEATURES_FOLDER, *EXPORT_NAMES)


@dataclass(frozen=True)
class Strays:
    """What the manifest does not list.

    Attributes:
        problems: a file each that stands in a folder of the run's.
        unfinished: files of killed or running attempts.
        foreign: files and folders beside those of the run, which may be the user's own.
    """

    problems: list[Problem] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def notes(self) -> Iterator[str]:
        """Say what is no problem but may be no use, a line each."""
        if self.unfinished:
            yield (
                f"{len(self.unfinished)} unfinished files of a killed or running attempt are there, "
                f"{self.unfinished[0]} for one; the run's command deletes them at its end"
            )
        if self.foreign:
            yield f"{len(self.foreign)} files and folders are no run's, {self.foreign[0]} for one"


def find_strays(output: OutputFolder) -> Strays:
    """Look for what the manifest of an output does not list; nothing is looked for where there is none."""
    strays = Strays()
    if output.manifest is None:
        return strays
    root = output.layout.output
    listed = output.manifest["digests"].keys() | {MANIFEST, MANIFEST_DIGEST, PLAN}
    folders_of_their_own = {path.removesuffix(LISTING_SUFFIX) for path in listed if path.endswith(LISTING_SUFFIX)}
    for path in _paths_below(root):
        folder, _, name = path.rpartition("/")
        place = files.join(root, *path.split("/"))
        if any(part.startswith(files.TEMP_PREFIX) for part in path.split("/")):
            strays.unfinished.extend([place] if name not in LOCK_FILES else [])
        elif path.partition("/")[0] not in _OWN_FOLDERS:
            strays.foreign.extend([place] if path not in listed else [])
        elif folder not in folders_of_their_own:
            made_by_readers = name == "lock.mdb" and f"{folder}/data.mdb" in listed
            if path not in listed and not made_by_readers:
                strays.problems.append(Problem("stray", f"{place}: {MANIFEST} does not list it; delete it"))
    return strays


def _paths_below(root: str) -> Iterator[str]:
    """Yield the path of each file below an output, relative to it, sorted; of somebody else's folders their names."""
    if files.is_remote(root):
        prefix = root.rstrip("/") + "/"
        yield from sorted(entry.path.removeprefix(prefix) for entry in match_files(f"{prefix}**"))
        return
    for folder, folders, names in os.walk(root):
        place = os.path.relpath(folder, root).replace(os.sep, "/")
        if place == os.curdir:
            strange = [name for name in folders if name not in _OWN_FOLDERS and not name.startswith(files.TEMP_PREFIX)]
            folders[:] = [name for name in folders if name not in strange]
            names += strange
        folders.sort()
        yield from (name if place == os.curdir else f"{place}/{name}" for name in sorted(names))
