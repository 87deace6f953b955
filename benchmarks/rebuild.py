"""What a rebuild costs where a share of the images changed: `beam_pipeline.rebuild` with every output.

    python -m benchmarks.rebuild --images 1000 --rate 4

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
from contextlib import redirect_stdout
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from beam_pipeline.pipeline import main as program
from beam_pipeline.rebuild.command import main as rebuild
from beam_pipeline.verify.command import verify
from benchmarks.changing_corpus import ChangingCorpus
from benchmarks.full_size_fake import keep_pixels
from benchmarks.paced_fake import SEEN, PacedHandler
from region_features.records.build_note import NOTE_SUFFIX
from region_features.records.plan import SHARD_SUFFIX
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
    """

    def __init__(self, folder: Path, images: int, rate: float) -> None:
        self.corpus = ChangingCorpus(folder / "corpus", images)
        self._folder, self._handler = folder, PacedHandler(rate)
        self._flags = ["--corpus", str(self.corpus.folder), "--weights", str(_WEIGHTS), "--outputs", _OUTPUTS]

    def rebuild(self) -> Cost:
        """Make the next version.

        Raises:
            RuntimeError: it failed.
        """
        root = str(self._folder / "root")
        return self._timed(lambda: rebuild([root, *self._flags, "--keep_versions", "1"], self._handler, keep_pixels))

    def build(self, output: Path) -> Cost:
        """Make an output of its own; see `rebuild`."""
        return self._timed(lambda: program([*self._flags, "--output", str(output)], self._handler, keep_pixels))

    def _timed(self, action: Callable[[], int]) -> Cost:
        SEEN.clear()
        began, busy = time.perf_counter(), time.process_time()
        with redirect_stdout(sys.stderr):
            status = action()
        if status:
            raise RuntimeError(f"expected status 0, got {status}; it says why above")
        return Cost(time.perf_counter() - began, time.process_time() - busy, len(SEEN))

    def latest(self) -> Path:
        """Return the folder of the latest version."""
        root = self._folder / "root"
        return root / "versions" / json.loads((root / "latest.json").read_text())["version"]


def difference(version: Path, full: Path) -> str:
    """Name what differs between two outputs: exports, annotations, and the records in the order of the shards.

    Shards may be cut otherwise, and so may what is said of them.
    """
    digests = [json.loads((folder / MANIFEST).read_text())["digests"] for folder in (version, full)]
    of_shards = (PLAN, FAILURES)
    names = {
        name
        for name in {*digests[0], *digests[1]} - {*of_shards}
        if not name.startswith(f"{SHARDS_FOLDER}/") and not f".{Path(name).name}".endswith(NOTE_SUFFIX)
    }
    differing = sorted(name for name in names if digests[0].get(name) != digests[1].get(name))
    shards = [sorted((folder / SHARDS_FOLDER).glob(f"*{SHARD_SUFFIX}")) for folder in (version, full)]
    records = [(record for path in paths for record in read_shard(str(path))) for paths in shards]
    if any(first != second for first, second in zip_longest(*records)):
        differing.append("records")
    return ", ".join(differing)


def measure(bench: Bench, full: Path) -> Iterator[str]:
    """Print a table of what rebuilds cost; yield what is wrong.

    Args:
        bench: the corpus, without a version yet.
        full: folder for an output of the grown corpus that is made without an earlier one.
    """
    few = max(1, len(bench.corpus) // 200)
    bench.rebuild()
    bench.corpus.change(added=2 * few, changed=few, removed=few, edited=4 * few)
    grown, whole = bench.rebuild(), bench.build(full)
    _row("without an earlier version", whole, whole)
    _row(f"{2 * few} added, {few} changed, {few} removed, captions of {4 * few} edited", grown, whole)
    if grown.images != 3 * few:
        yield f"expected {3 * few} images at the network, got {grown.images}"
    yield from (problem.message for problem in verify(str(bench.latest()), inputs=True).problems)
    if differing := difference(bench.latest(), full):
        yield f"expected the same bytes as without an earlier version, but these differ: {differing}"
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


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, and what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=4.0, help="images a second of the network")
    parser.add_argument("--dir", help="folder for everything, 10 MB an image (default: the system's)")
    args = parser.parse_args(argv)
    machine = f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}"
    print(f"{args.images} images, a network of {args.rate:g} images/s; {machine}")
    print("| what | images at the network | seconds | of a full run | CPU seconds |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        problems = list(measure(Bench(Path(folder), args.images, args.rate), Path(folder) / "full"))
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
