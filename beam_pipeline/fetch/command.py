"""`python -m beam_pipeline.fetch FROM DIR`: an output, or the latest version of a corpus, as local files."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apache_beam.io.filesystems import FileSystems

from beam_pipeline.fetch.contents import with_contents
from beam_pipeline.fetch.selection import ListedFile, is_inside, select_files
from beam_pipeline.fetch.transfer import PART_PREFIX, fetch_files, find_missing, local_path
from beam_pipeline.flags.types import path as as_path
from beam_pipeline.layout import Layout
from beam_pipeline.output_lock import lock_output
from beam_pipeline.preflight.output_folder import parse_manifest
from beam_pipeline.progress.console import note
from beam_pipeline.progress.run_progress import TransferProgress
from beam_pipeline.progress.summary import counted, readable_size
from beam_pipeline.rebuild.leases import lease_version
from beam_pipeline.rebuild.versions import LATEST, Versions
from beam_pipeline.usage import Parser, UsageError, one_line
from region_features.download.unzip import check_room
from region_features.records.json_text import parse_json
from transforms import files
from transforms.manifest import MANIFEST, MANIFEST_DIGEST, PLAN

# What fetches have put into a folder, so that a later one may delete it.
FETCHED = "fetched.json"


@dataclass(frozen=True)
class Source:
    """An output to be fetched: its folder, its manifest as stored and parsed, and where it comes from, in words."""

    folder: str
    data: bytes
    manifest: Mapping[str, Any]
    name: str


@contextlib.contextmanager
def open_source(place: str) -> Iterator[Source]:
    """Find the output to fetch, and hold it where it is a version that a rebuild might delete.

    Args:
        place: the folder of a rebuild's versions, or an output folder.

    Raises:
        UsageError: it is neither, or its run failed.
        ValueError: latest.json or the manifest is damaged.
    """
    versions = Versions(place)
    latest = versions.read_latest()
    if latest is None:
        yield _read_source(place, place)
        return
    with lease_version(place, latest.version, note):
        versions.read_manifest(latest)
        yield _read_source(versions.folder(latest.version), f"version {latest.version}")


def _read_source(folder: str, name: str) -> Source:
    layout = Layout(folder)
    present = files.list_folder(folder)
    if MANIFEST not in present:
        raise UsageError(
            f"{folder}: expected {LATEST} of a rebuild, or {MANIFEST} of a run that has ended, found none; check the "
            "path"
        )
    data = files.read_bytes(layout.manifest)
    expected = files.read_bytes(layout.manifest_digest).decode() if MANIFEST_DIGEST in present else ""
    if expected != f"{files.digest_of_bytes(data)['sha256']}  {MANIFEST}\n":
        raise ValueError(
            f"{layout.manifest}: expected the SHA-256 that {MANIFEST_DIGEST} says, got another; give the command of "
            "that run again, then fetch"
        )
    manifest = parse_manifest(data, layout.manifest)
    if manifest["status"] != "done":
        raise UsageError(f"{folder}: expected a run that went well, got one that failed: {manifest.get('reason')}")
    return Source(folder, data, manifest, name)


def fetch(source: Source, folder: str, outputs: Sequence[str] | None) -> str:
    """Make a local folder hold these outputs, and nothing of an earlier version; return what was done, in words.

    Raises:
        UsageError: the folder is another's, or there is no such output.
        ValueError, OSError: with one line for the user; what has arrived stays, and the same call goes on.
    """
    wanted = list(with_contents(source.folder, select_files(source.manifest, outputs)))
    earlier = read_fetched(folder)
    layout = Layout(folder)
    _write_fetched(folder, source, {*earlier, *(file.path for file in wanted)})
    if os.path.exists(layout.manifest) and files.read_bytes(layout.manifest) != source.data:
        files.delete_files([layout.manifest, layout.manifest_digest])
    missing = find_missing(folder, wanted)
    check_room(folder, sum(file.num_bytes for file in missing))
    with TransferProgress(f"fetching {source.name}") as progress:
        fetch_files(source.folder, folder, missing, progress)
    kept, deleted = _clean(folder, source, wanted, earlier)
    files.publish_bytes(layout.manifest, [source.data])
    line = f"{files.digest_of_bytes(source.data)['sha256']}  {MANIFEST}\n"
    files.publish_bytes(layout.manifest_digest, [line.encode()])
    _write_fetched(folder, source, {*kept, *(file.path for file in wanted)})
    size = readable_size(sum(file.num_bytes for file in missing))
    rest = f"{counted(len(wanted) - len(missing), 'file')} were there"
    gone = f", {counted(len(deleted), 'file')} of an earlier fetch deleted" if deleted else ""
    return f"{folder}: {source.name}: {counted(len(missing), 'file')} fetched, {size}; {rest}{gone}"


def read_fetched(folder: str) -> set[str]:
    """Return the paths that earlier fetches have put into a folder.

    Raises:
        UsageError: the folder holds an output that no fetch wrote, or a damaged list.
    """
    path = os.path.join(folder, FETCHED)
    if not os.path.exists(path):
        for name in (MANIFEST, PLAN):
            if os.path.exists(os.path.join(folder, name)):
                raise UsageError(f"{folder}: holds the {name} of a run, and no fetch wrote it; choose another folder")
        return set()
    try:
        paths = parse_json(files.read_bytes(path))["paths"]
        if not all(map(is_inside, paths)):
            raise ValueError("a path that leads out of the folder")
        return set(paths)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: expected what a fetch wrote, got something else; choose another folder") from error


def _write_fetched(folder: str, source: Source, paths: set[str]) -> None:
    content = {"from": source.folder, "paths": sorted(paths)}
    files.publish_bytes(os.path.join(folder, FETCHED), [(json.dumps(content, indent=1) + "\n").encode()])


def _clean(folder: str, source: Source, wanted: Sequence[ListedFile], earlier: set[str]) -> tuple[set[str], list[str]]:
    """Delete what earlier fetches left that is not of this version; return paths that stay, and those deleted."""
    current = {file.path: file for file in with_contents(source.folder, select_files(source.manifest, None))}
    others = sorted(earlier - {file.path for file in wanted})
    outdated = {file.path for file in find_missing(folder, [current[path] for path in others if path in current])}
    deleted = []
    for path in others:
        place = local_path(folder, ListedFile(path, 0, ""))
        if (path not in current or path in outdated) and os.path.isfile(place):
            os.remove(place)
            deleted.append(path)
            with contextlib.suppress(OSError):  # not empty
                os.removedirs(os.path.dirname(place))
    known = {*earlier, *current}
    for place in {os.path.dirname(local_path(folder, ListedFile(path, 0, ""))) for path in known}:
        files.delete_temporaries(place, PART_PREFIX)
    return {path for path in others if path in current and path not in outdated}, deleted


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Returns:
        Exit status: 0 done, 1 it failed, 2 wrong use.
    """
    parser = Parser(
        prog="python -m beam_pipeline.fetch",
        description="Bring the latest version of a rebuild, or the output of a run, to this machine. Every file is "
        "compared with the SHA-256 of the manifest; what is there and right is not fetched again. Run the same command "
        "again to go on after a cut, or for a newer version. Exit status: 0 done, 1 it failed, 2 wrong use.",
    )
    parser.add_argument(
        "source", metavar="FROM", type=as_path, help="ROOT of a rebuild, or the --output of a run, local or gs://"
    )
    parser.add_argument("folder", metavar="DIR", type=as_path, help="local folder; of this command alone")
    parser.add_argument(
        "--outputs", metavar="LIST", help="some of tfrecord,captions,lmdb,tsv,negatives, as far as they are there"
    )
    try:
        args = parser.parse_args(argv)
        if files.is_remote(args.folder):
            raise UsageError(f"{args.folder}: expected a local folder, got one on remote storage; name a local one")
        outputs = args.outputs and [name.strip() for name in args.outputs.split(",") if name.strip()]
        if outputs is not None and not outputs:
            raise UsageError("--outputs: expected some of the outputs, got nothing; leave it out to fetch all")
        with lock_output(args.folder, ""), open_source(args.source.rstrip("/") or "/") as source:
            try:
                print(fetch(source, args.folder, outputs))
            except (UsageError, ValueError):
                raise
            except Exception as error:  # each file system has its own kinds of errors
                if FileSystems.exists(Layout(source.folder).manifest):
                    raise OSError(f"{error}; run the same command again to go on") from error
                raise OSError(f"{source.folder} was deleted meanwhile; run the same command again") from error
    except UsageError as error:
        print(f"fetch: {one_line(error)}", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"fetch: {one_line(error)}", file=sys.stderr)
        return 1
    return 0
