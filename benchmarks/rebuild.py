"""What a rebuild costs where a share of the images changed: `beam_pipeline.rebuild` with every output.

    python -m benchmarks.rebuild --images 1000 --rate 4
    python -m benchmarks.rebuild --images 1000 --rate 4 --gs     # on a storage emulator, without the table's shares

The network is a fake that takes as long as one of RATE images a second; its records have the real network's size, and
depend on the pixels. First a corpus grows: 1 % of its images are added, 0.5 % changed, 0.5 % removed, and the captions
of 2 % edited; the network must see the new and changed ones alone, and every output must be, byte for byte, that of a
run without an earlier one. Then a share of its images is changed, for each row of a table. Exit status: 1 where the
network saw another number of images, or an output differs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from apache_beam.internal.gcp import auth

from beam_pipeline.pipeline import main as program
from beam_pipeline.rebuild.command import main as rebuild
from beam_pipeline.verify.command import verify
from benchmarks.support.changing_corpus import ChangingCorpus
from benchmarks.support.faulty_storage import BUCKET, emulator, faulty_storage
from benchmarks.support.full_size_fake import keep_pixels
from benchmarks.support.paced_fake import SEEN, PacedHandler
from region_features.records.build_note import NOTE_SUFFIX
from region_features.records.plan import SHARD_SUFFIX
from transforms import files
from transforms.manifest import FAILURES, MANIFEST, PLAN, SHARDS_FOLDER
from transforms.shards import read_shard

_WEIGHTS = Path(__file__).resolve().parents[1] / "tests" / "data" / "tiny.caffemodel"  # checked, never run
_OUTPUTS = "tfrecord,captions,lmdb,tsv,negatives"
_SHARES = (0.0, 0.001, 0.01, 0.1, 1.0)


class Cost(NamedTuple):
    """Seconds by the clock and of the processor, which other programs do not slow down, and images at the network."""

    seconds: float
    cpu_seconds: float
    images: int


class Bench:
    """A corpus, and its versions.

    Args:
        folder: where everything goes.
        images: of the corpus at first.
        rate: images a second of the network.
        bucket: where the corpus is copied to and all outputs go; None for all in `folder`.
    """

    def __init__(self, folder: Path, images: int, rate: float, bucket: str | None = None) -> None:
        self.corpus = ChangingCorpus(folder / "corpus", images)
        self.base = bucket or str(folder)
        self._handler, self._uploaded = PacedHandler(rate), dict[Path, int]()
        self._flags = ["--corpus", f"{self.base}/corpus", "--weights", str(_WEIGHTS), "--outputs", _OUTPUTS]

    def rebuild(self) -> Cost:
        """Make the next version.

        Raises:
            RuntimeError: it failed.
        """
        flags = [f"{self.base}/root", *self._flags, "--keep_versions", "1"]
        return self._timed(lambda: rebuild(flags, self._handler, keep_pixels))

    def build(self, output: str) -> Cost:
        """Make an output of its own; see `rebuild`."""
        return self._timed(lambda: program([*self._flags, "--output", output], self._handler, keep_pixels))

    def upload(self) -> None:
        """Bring the corpus of the bucket to what the local one is; nothing without a bucket."""
        if not files.is_remote(self.base):
            return
        folder = self.corpus.folder
        there = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
        for path in (path for path, time_ns in there.items() if self._uploaded.get(path) != time_ns):
            files.publish_bytes(f"{self.base}/corpus/{path.relative_to(folder)}", [path.read_bytes()])
        gone = self._uploaded.keys() - there
        files.delete_files(f"{self.base}/corpus/{path.relative_to(folder)}" for path in gone)
        self._uploaded = there

    def _timed(self, action: Callable[[], int]) -> Cost:
        SEEN.clear()
        began, busy = time.perf_counter(), time.process_time()
        with redirect_stdout(sys.stderr):
            status = action()
        if status:
            raise RuntimeError(f"expected status 0, got {status}; it says why above")
        return Cost(time.perf_counter() - began, time.process_time() - busy, len(SEEN))

    def latest(self) -> str:
        """Return the folder of the latest version."""
        version = _read_json(f"{self.base}/root/latest.json")["version"]
        return f"{self.base}/root/versions/{version}"


def _read_json(path: str) -> Any:
    return json.loads(files.read_bytes(path))


def difference(version: str, full: str) -> str:
    """Name what differs between two outputs: exports, annotations, and the records in the order of the shards.

    Shards may be cut otherwise, and so may what is said of them.
    """
    digests = [_read_json(f"{output}/{MANIFEST}")["digests"] for output in (version, full)]
    of_shards = (PLAN, FAILURES)
    names = {
        name
        for name in {*digests[0], *digests[1]} - {*of_shards}
        if not name.startswith(f"{SHARDS_FOLDER}/") and not f".{Path(name).name}".endswith(NOTE_SUFFIX)
    }
    differing = sorted(name for name in names if digests[0].get(name) != digests[1].get(name))
    records = [
        (record for path in _shards(f"{output}/{SHARDS_FOLDER}") for record in read_shard(path))
        for output in (version, full)
    ]
    if any(first != second for first, second in zip_longest(*records)):
        differing.append("records")
    return ", ".join(differing)


def _shards(folder: str) -> Iterator[str]:
    return (files.join(folder, name) for name in sorted(files.list_folder(folder)) if name.endswith(SHARD_SUFFIX))


def measure(bench: Bench) -> Iterator[str]:
    """Print a table of what rebuilds cost; yield what is wrong.

    Args:
        bench: the corpus, without a version yet.
    """
    few, full = max(1, len(bench.corpus) // 200), f"{bench.base}/full"
    bench.upload()
    bench.rebuild()
    bench.corpus.change(added=2 * few, changed=few, removed=few, edited=4 * few)
    bench.upload()
    grown, whole = bench.rebuild(), bench.build(full)
    _row("without an earlier version", whole, whole)
    _row(f"{2 * few} added, {few} changed, {few} removed, captions of {4 * few} edited", grown, whole)
    if grown.images != 3 * few:
        yield f"expected {3 * few} images at the network, got {grown.images}"
    yield from (problem.message for problem in verify(bench.latest(), inputs=True).problems)
    if differing := difference(bench.latest(), full):
        yield f"expected the same bytes as without an earlier version, but these differ: {differing}"
    if files.is_remote(full):
        return
    shutil.rmtree(full)
    for share in _SHARES:
        changed = round(share * len(bench.corpus))
        bench.corpus.change(changed=changed)
        cost = bench.rebuild()
        _row(f"{share:.1%} of the images changed", cost, whole)
        if cost.images != changed:
            yield f"expected {changed} images at the network, got {cost.images}"


def _row(what: str, cost: Cost, whole: Cost) -> None:
    share = f"{cost.seconds / whole.seconds:.1%}"
    print(f"| {what} | {cost.images} | {cost.seconds:.1f} | {share} | {cost.cpu_seconds:.1f} |", flush=True)


@contextmanager
def _bucket(asked: bool) -> Iterator[str | None]:
    """Give a bucket of a storage emulator, or None."""
    if not asked:
        yield None
        return
    with emulator() as address, faulty_storage(address) as storage:
        variables = mock.patch.dict(os.environ, {"STORAGE_EMULATOR_HOST": storage.base})
        # Beam would look for credentials on the network for 25 seconds.
        with variables, mock.patch.object(auth._Credentials, "_credentials_init", True):
            yield f"gs://{BUCKET}"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, and what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=4.0, help="images a second of the network")
    parser.add_argument("--dir", help="folder for everything, 10 MB an image (default: the system's)")
    parser.add_argument("--gs", action="store_true", help="corpus and outputs on a storage emulator")
    args = parser.parse_args(argv)
    machine = f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}"
    print(f"{args.images} images, a network of {args.rate:g} images/s; {machine}")
    print("| what | images at the network | seconds | of a full run | CPU seconds |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(dir=args.dir) as folder, _bucket(args.gs) as bucket:
        problems = list(measure(Bench(Path(folder), args.images, args.rate, bucket)))
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
