"""`python -m beam_pipeline.download`: the official COCO archives, fetched, checked and unpacked."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from beam_pipeline.transfer_progress import TransferProgress
from beam_pipeline.usage import Parser, UsageError
from region_features.download.http import discard, download, forget, probe
from region_features.download.unzip import check_archive, check_room, count_entries, unpack_file, unpack_folder


@dataclass(frozen=True)
class Archive:
    """One official archive: its name, where it is, and what it becomes below the corpus folder."""

    name: str
    url: str
    target: str

    @property
    def filename(self) -> str:
        """The archive's file name."""
        return f"{self.name}.zip"


# COCO's host shows the certificate of another name, so that https fails.
ARCHIVES = (
    Archive(
        "caption_datasets",
        "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip",
        "dataset_coco.json",
    ),
    Archive("val2014", "http://images.cocodataset.org/zips/val2014.zip", "images/val2014"),
    Archive("test2015", "http://images.cocodataset.org/zips/test2015.zip", "images/test2015"),
    Archive("train2014", "http://images.cocodataset.org/zips/train2014.zip", "images/train2014"),
)


@dataclass(frozen=True)
class Options:
    """What the user asked for: the folder, the archives with their addresses, and whether to unpack them."""

    corpus: str
    archives: tuple[Archive, ...]
    unzip: bool


def parse_args(argv: Sequence[str]) -> Options:
    """Read the command line.

    Raises:
        UsageError: wrong use, in one line.
        SystemExit: after --help.
    """
    parser = Parser(
        prog="python -m beam_pipeline.download",
        allow_abbrev=False,
        description="Fetch COCO's images and Karpathy's captions. A download that was cut goes on when the same "
        "command is given again; what is whole is left alone.",
        epilog="Exit status: 0 done, 1 the download failed, 2 wrong use.",
    )
    names = [archive.name for archive in ARCHIVES]
    parser.add_argument("--corpus", metavar="DIR", help="local folder for the archives, and for what is in them")
    parser.add_argument("--unzip", action="store_true", help="also unpack into DIR/images and DIR/dataset_coco.json")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"some of {', '.join(names)}")
    parser.add_argument("--base_url", metavar="URL", help="a mirror with URL/NAME.zip (default: the official hosts)")
    args = parser.parse_args(argv)
    if not args.corpus:
        raise UsageError("--corpus DIR is missing: where the archives go; see --help")
    if "://" in args.corpus:
        raise UsageError(f"--corpus {args.corpus}: expected a local folder; fetch there, then copy it up")
    wanted = tuple(archive for archive in ARCHIVES if args.only is None or archive.name in args.only)
    if args.base_url is not None:
        parts = urllib.parse.urlsplit(args.base_url)
        if parts.scheme not in ("http", "https") or not parts.netloc or any(sign <= " " for sign in args.base_url):
            raise UsageError(f"--base_url: expected http://HOST/PATH or https://HOST/PATH, got {args.base_url!r}")
        base = args.base_url.rstrip("/")
        wanted = tuple(Archive(each.name, f"{base}/{each.filename}", each.target) for each in wanted)
    return Options(args.corpus, wanted, args.unzip)


def run(options: Options) -> None:
    """Fetch what is missing, then check it, name it, and unpack it.

    Raises:
        OSError, ValueError: it cannot be done; the message is one line for the user.
    """
    os.makedirs(options.corpus, exist_ok=True)
    with _alone(options.corpus):
        pending = [archive for archive in options.archives if not _is_finished(archive, options)]
        _check_disk(pending, options)
        for archive in pending:
            path = _path(options.corpus, archive.filename)
            if not os.path.exists(path):
                _fetch(archive, path)
            if options.unzip:
                _unpack(archive, path, options.corpus)


def main(argv: Sequence[str]) -> int:
    """Run the program.

    Returns:
        Exit status: 0 done, 1 the download failed, 2 wrong use, 130 interrupted.
    """
    try:
        options = parse_args(argv)
    except UsageError as error:
        return _end(str(error), 2)
    try:
        run(options)
    except KeyboardInterrupt:
        return _end("interrupted; run the same command again to go on", 130)
    except (OSError, ValueError) as error:
        # The system's own errors name no file where a disk is full.
        system = isinstance(error, OSError) and error.strerror
        where = f"--corpus {options.corpus}: " if system else ""
        return _end(f"{where}{error}", 1)
    return 0


def _end(message: str, status: int) -> int:
    print(f"download: {' '.join(message.split())}", file=sys.stderr)
    return status


def _path(corpus: str, *names: str) -> str:
    return os.path.join(corpus, *names)


def _part(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".tmp-{name}.part")


@contextlib.contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Two downloads into one folder would write to the same file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(f"{folder}: another download is writing to it; wait for it to end") from error
        except OSError:
            pass  # some network file systems lock no folders
        yield
    finally:
        os.close(handle)


def _is_finished(archive: Archive, options: Options) -> bool:
    """Whether nothing is left to do; says so. An archive that was deleted after it was unpacked is not missed."""
    path, target = _path(options.corpus, archive.filename), _path(options.corpus, archive.target)
    if os.path.exists(path):
        try:
            count_entries(path)
        except ValueError as error:
            raise ValueError(f"{error}; delete it or move it away") from error
        if not options.unzip:
            print(f"{path}: is there")
        return not options.unzip
    if options.unzip and os.path.lexists(target):
        print(f"{target}: is there")
        return True
    return False


def _check_disk(pending: Sequence[Archive], options: Options) -> None:
    needed = 0
    for archive in pending:
        path = _path(options.corpus, archive.filename)
        if os.path.exists(path):
            size = os.path.getsize(path)
        else:
            size = probe(archive.url, _note).size or 0
            part = _part(path)
            needed += size - min(size, os.path.getsize(part) if os.path.exists(part) else 0)
        if options.unzip and not os.path.lexists(_path(options.corpus, archive.target)):
            needed += size  # photographs hardly shrink in a zip; unpacking itself counts exactly
    check_room(options.corpus, needed)


def _fetch(archive: Archive, path: str) -> None:
    part = _part(path)
    with TransferProgress(archive.filename, sys.stderr) as progress:
        download(archive.url, part, progress, progress.note)
    try:
        with TransferProgress(f"{archive.filename}, checking", sys.stderr) as progress:
            count = check_archive(part, progress)
    except ValueError as error:
        discard(part)
        raise ValueError(f"{error}; deleted, run the same command again to fetch it anew") from error
    with open(part, "rb") as stream:
        os.fsync(stream.fileno())
    os.rename(part, path)
    forget(part)
    print(f"{path}: {count} files, {os.path.getsize(path) / 1e6:.1f} MB, every CRC is right")


def _unpack(archive: Archive, path: str, corpus: str) -> None:
    parent, name = os.path.split(_path(corpus, archive.target))
    if archive.target.startswith("images/"):
        with TransferProgress(f"{archive.target}, unpacking", sys.stderr) as progress:
            count = unpack_folder(path, parent, name, progress)
        print(f"{_path(corpus, archive.target)}: {count} images")
    else:
        unpack_file(path, name, parent)
        print(f"{_path(corpus, archive.target)}: unpacked")


def _note(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
