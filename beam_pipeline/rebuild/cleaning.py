"""Old and given-up versions are deleted, unless something is at work in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from apache_beam.io.filesystems import FileSystems

from beam_pipeline.layout import Layout
from beam_pipeline.output_lock import lock_output
from beam_pipeline.rebuild.leases import leased_versions
from beam_pipeline.rebuild.versions import Versions
from beam_pipeline.usage import UsageError
from transforms import files
from transforms.trees import delete_tree


def outdated_versions(versions: Versions, latest: str, keep: int) -> list[str]:
    """List the versions before the latest that are more than `keep` whole ones ago, and rests of deleted ones.

    A version is deleted by its manifest first, so one without a manifest is such a rest.
    """
    older = [name for name in versions.names() if name < latest]
    whole = [name for name in older if FileSystems.exists(Layout(versions.folder(name)).manifest)]
    kept = whole[len(whole) - min(keep - 1, len(whole)) :]
    return [name for name in older if name not in kept]


def delete_versions(versions: Versions, names: Iterable[str], note: Callable[[str], None]) -> None:
    """Delete versions; one that a lease names, or that a run writes to, stays and is noted.

    Raises:
        OSError: a file cannot be deleted.
    """
    leased = leased_versions(versions.root)
    for name in names:
        folder = versions.folder(name)
        if name in leased:
            note(f"{folder} stays: it is being fetched")
            continue
        try:
            with lock_output(folder, ""):
                # First, so that nobody takes the rest for a whole version.
                files.delete_files([Layout(folder).manifest])
        except UsageError as error:
            note(f"{folder} stays: {error}")
            continue
        delete_tree(folder)
        note(f"{folder} is deleted")
