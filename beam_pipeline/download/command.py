"""`python -m beam_pipeline.download`: download, check and unpack COCO's images and Karpathy's captions."""

from __future__ import annotations

import argparse
import os
import sys
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass

from filelock import FileLock, Timeout

from beam_pipeline.flags.types import path
from beam_pipeline.process import INTERRUPTED, TERMINATED, Terminated
from beam_pipeline.progress.console import console
from beam_pipeline.progress.run_progress import TransferProgress
from beam_pipeline.usage import Parser, UsageError
from region_features.download.http import discard, download, forget, probe
from region_features.download.unzip import (
    FREE_BYTES,
    MAX_BYTES,
    MAX_RATIO,
    UnpackedSizeError,
    check_archive,
    check_room,
    check_unpacked_size,
    list_files,
    unpack_file,
    unpack_folder,
)
from region_features.records.coco import ARCHIVES, CAPTIONS_FILE, IMAGE_SETS, IMAGES_FOLDER, Archive

LOCK_FILE = ".download.lock"
_GB = 1_000_000_000


@dataclass(frozen=True)
class Options:
    """The command line: the corpus folder, the archives with their addresses, whether to unpack them, and the limit.

    `max_unpacked` is the most bytes that an archive may unpack to, None for the default of `check_unpacked_size`.
    """

    corpus: str
    archives: tuple[Archive, ...]
    unzip: bool
    max_unpacked: int | None


def parse_args(argv: Sequence[str]) -> Options:
    """Read the command line.

    Raises:
        UsageError: wrong use, in one line.
        SystemExit: after --help.
    """
    parser = Parser(
        prog="python -m beam_pipeline.download",
        description="Download COCO's images and Karpathy's captions. Run the same command again to go on after a cut; "
        "whole files are left alone.",
        epilog="Exit status: 0 done, 1 the download failed, 2 wrong use.",
    )
    names = [archive.name for archive in ARCHIVES]
    parser.add_argument("--corpus", metavar="DIR", type=path, help="local folder for the archives and their content")
    parser.add_argument(
        "--unzip", action="store_true", help=f"also unpack into DIR/{IMAGES_FOLDER} and DIR/{CAPTIONS_FILE}"
    )
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"some of {', '.join(names)}")
    parser.add_argument("--base_url", metavar="URL", help="a mirror with URL/NAME.zip (default: the official hosts)")
    parser.add_argument(
        "--max_unpacked_gb",
        type=_bytes_of_gigabytes,
        metavar="GB",
        help="refuse an archive that unpacks to more (default: "
        f"{MAX_RATIO} times its size, at least {FREE_BYTES // _GB} and at most {MAX_BYTES // _GB} GB)",
    )
    args = parser.parse_args(argv)
    if not args.corpus:
        raise UsageError("--corpus DIR is missing: where the archives go; see --help")
    if os.path.exists(args.corpus) and not os.path.isdir(args.corpus):
        raise UsageError(f"--corpus {args.corpus}: expected a folder, got a file; name another place")
    if "://" in args.corpus:
        raise UsageError(f"--corpus {args.corpus}: expected a local folder; fetch there, then copy it up")
    archives = tuple(archive for archive in ARCHIVES if args.only is None or archive.name in args.only)
    if args.base_url is not None:
        parts = urllib.parse.urlsplit(args.base_url)
        if parts.scheme not in ("http", "https") or not parts.netloc or any(sign <= " " for sign in args.base_url):
            raise UsageError(f"--base_url: expected http://HOST/PATH or https://HOST/PATH, got {args.base_url!r}")
        base = args.base_url.rstrip("/")
        archives = tuple(archive._replace(url=f"{base}/{archive.filename}") for archive in archives)
    return Options(args.corpus, archives, args.unzip, args.max_unpacked_gb)


def _bytes_of_gigabytes(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text) * _GB


def run(options: Options) -> None:
    """Download, check and unpack what is missing.

    Raises:
        OSError, ValueError: with one line for the user.
    """
    os.makedirs(options.corpus, exist_ok=True)
    try:
        with FileLock(os.path.join(options.corpus, LOCK_FILE), timeout=0):
            pending = [archive for archive in options.archives if not _is_finished(archive, options)]
            _check_disk(pending, options)
            for archive in pending:
                path = os.path.join(options.corpus, archive.filename)
                if not os.path.exists(path):
                    _download(archive, path, options.max_unpacked)
                if options.unzip:
                    _check_unpacked_size(path, options.max_unpacked)
                    _unpack(archive, path, options.corpus)
    except Timeout as error:
        raise OSError(f"{options.corpus}: another download is writing to it; wait for it to end") from error


def main(argv: Sequence[str]) -> int:
    """Run the program.

    Returns:
        Exit status: 0 done, 1 the download failed, 2 wrong use, 130 interrupted, 143 terminated.
    """
    try:
        options = parse_args(argv)
        run(options)
    except UsageError as error:
        return _end(str(error), 2)
    except KeyboardInterrupt:
        return _end("interrupted; run the same command again to go on", INTERRUPTED)
    except Terminated:
        return _end("terminated; run the same command again to go on", TERMINATED)
    except (OSError, ValueError) as error:
        # The system's own errors name no file if the disk is full.
        system = isinstance(error, OSError) and error.strerror
        where = f"--corpus {options.corpus}: " if system else ""
        return _end(f"{where}{error}", 1)
    return 0


def _end(message: str, status: int) -> int:
    print(f"download: {' '.join(message.split())}", file=sys.stderr)
    return status


def _part(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".tmp-{name}.part")


def _is_finished(archive: Archive, options: Options) -> bool:
    """Whether there is nothing to do, which is printed; an archive may be deleted once it is unpacked."""
    path = os.path.join(options.corpus, archive.filename)
    if os.path.exists(path):
        try:
            list_files(path)
        except ValueError as error:
            raise ValueError(f"{error}; delete it or move it away") from error
        finished = not options.unzip
    else:
        path = os.path.join(options.corpus, archive.target)
        finished = options.unzip and os.path.lexists(path)
    if finished:
        print(f"{path}: is there")
    return finished


def _check_disk(pending: Sequence[Archive], options: Options) -> None:
    needed = 0
    for archive in pending:
        path = os.path.join(options.corpus, archive.filename)
        if os.path.exists(path):
            size = os.path.getsize(path)
        else:
            size = probe(archive.url, lambda text: print(text, file=sys.stderr)).size or 0
            part = _part(path)
            needed += size - min(size, os.path.getsize(part) if os.path.exists(part) else 0)
        if options.unzip and not os.path.lexists(os.path.join(options.corpus, archive.target)):
            needed += size  # photographs hardly shrink in a zip; unpacking itself counts exactly
    check_room(options.corpus, needed)


def _check_unpacked_size(path: str, max_unpacked: int | None) -> None:
    try:
        check_unpacked_size(path, max_unpacked)
    except UnpackedSizeError as error:
        raise UnpackedSizeError(
            f"{error}; nothing was unpacked: delete it, or raise --max_unpacked_gb if you trust it"
        ) from error


def _download(archive: Archive, path: str, max_unpacked: int | None) -> None:
    part = _part(path)
    with TransferProgress(archive.filename) as progress:
        download(archive.url, part, progress, console().line)
    try:
        _check_unpacked_size(part, max_unpacked)
        with TransferProgress(f"{archive.filename}, checking") as progress:
            count = check_archive(part, progress)
    except UnpackedSizeError:
        raise
    except ValueError as error:
        discard(part)
        raise ValueError(f"{error}; deleted, run the same command again to fetch it anew") from error
    with open(part, "rb") as stream:
        os.fsync(stream.fileno())
    os.rename(part, path)
    forget(part)
    print(f"{path}: {count} files, {os.path.getsize(path) / 1e6:.1f} MB, every CRC is right")


def _unpack(archive: Archive, path: str, corpus: str) -> None:
    target = os.path.join(corpus, archive.target)
    parent, name = os.path.split(target)
    if archive.name in IMAGE_SETS:
        with TransferProgress(f"{archive.target}, unpacking") as progress:
            count = unpack_folder(path, parent, name, progress)
        print(f"{target}: {count} images")
    else:
        unpack_file(path, name, parent)
        print(f"{target}: unpacked")
