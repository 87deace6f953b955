"""Kill rebuilds with SIGKILL at random moments: does latest.json name a whole version each time, and do they go on?

    python -m benchmarks.rebuild_kills --kills 50

A small corpus with captions has a first version with every output, of the whole program with a narrow network. Then
images are added, changed and removed and captions edited, and rebuilds of copies of it are killed, one after another,
until five have been; the last one may end. The moments are uniform over the time that a rebuild takes, from the start
of its process. Exit status: 1 if after a kill latest.json does not name a version whose every file is there by its
SHA-256, if a rebuild that was not killed fails, or if its version differs from that of a rebuild without kills.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from beam_pipeline.rebuild.versions import LATEST, VERSIONS_FOLDER
from benchmarks.kills import check
from benchmarks.support.changing_corpus import ChangingCorpus
from region_features.records.stats import STATS_SUFFIX
from transforms import files
from transforms.manifest import MANIFEST, MANIFEST_DIGEST, SHARDS_FOLDER

_ROOT = Path(__file__).resolve().parents[1]
_OUTPUTS = "tfrecord,captions,lmdb,tsv,negatives"
_IMAGES, _SHARDS, _SETS = 18, 3, 2
_KILLS_A_ROOT, _SIDE_BY_SIDE = 5, 2
# What a rebuild was at when it was killed.
START, SHARDS, EXPORTS, END, NAMED = "start", "shards", "exports", "end", "named"


@dataclass
class Outcome:
    """What became of one ROOT: what its killed rebuilds were at, and what is wrong with it, empty if nothing is."""

    kills: Counter[str] = field(default_factory=Counter)
    problem: str = ""


def start(corpus: Path, root: Path) -> subprocess.Popen[bytes]:
    """Start a rebuild; its messages go to a file beside its ROOT."""
    flags = ["--corpus", corpus, "--weights", _ROOT / "tests" / "data" / "tiny.caffemodel", "--outputs", _OUTPUTS]
    flags += ["--num_shards", _SHARDS, "--negatives_pool", 4, "--device", "cpu"]
    command = [sys.executable, "-m", "beam_pipeline.rebuild", str(root), *map(str, flags)]
    with open(log_of(root), "wb") as log:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=log)


def log_of(root: Path) -> Path:
    """Return the file of a ROOT's messages."""
    return root.with_suffix(".log")


def latest_of(root: Path) -> Path:
    """Return the folder of the latest version, once each of its files is found whole.

    Raises:
        RuntimeError: one is not.
    """
    try:
        latest = json.loads((root / LATEST).read_text())
        folder = root / VERSIONS_FOLDER / latest["version"]
        listed = json.loads((folder / MANIFEST).read_text())["digests"]
        sha256 = {MANIFEST: latest["manifest_sha256"], **{path: row["sha256"] for path, row in listed.items()}}
        broken = [path for path, expected in sha256.items() if files.sha256_of(str(folder / path)) != expected]
    except (OSError, ValueError, KeyError) as error:
        raise RuntimeError(f"{LATEST} names no whole version: {error!r}") from error
    if broken:
        raise RuntimeError(f"{LATEST} names {latest['version']}, of which these are not whole: {', '.join(broken)}")
    return folder


def activity(root: Path, first: Path) -> str:
    """Return what a rebuild is at, by the files of its version."""
    newest = max((root / VERSIONS_FOLDER).iterdir())
    if newest.name == first.name:
        return START
    if json.loads((root / LATEST).read_text())["version"] == newest.name:
        return NAMED
    if (newest / MANIFEST).exists():
        return END
    whole = len(list((newest / SHARDS_FOLDER).glob(f"*{STATS_SUFFIX}")))
    return EXPORTS if whole == _SETS * _SHARDS else SHARDS


def contents(version: Path) -> dict[str, bytes]:
    """Return every file of a version, unfinished ones included; the manifest names the version before by its path."""
    paths = [path for path in version.rglob("*") if path.is_file() and path.name not in (MANIFEST, MANIFEST_DIGEST)]
    return {str(path.relative_to(version)): path.read_bytes() for path in paths}


def kill_and_rebuild(corpus: Path, base: Path, clean: Path, root: Path, kills: int, seconds: float) -> Outcome:
    """Rebuild a copy of `base` by processes that are killed within `seconds` of their start, and one that ends."""
    outcome, rng = Outcome(), random.Random(root.name)
    shutil.copytree(base, root)
    try:
        first = latest_of(root)
        while outcome.kills.total() < kills:
            process = start(corpus, root)
            try:
                check(process.wait(rng.uniform(0, seconds)), log_of(root))
                break  # the rest was little
            except subprocess.TimeoutExpired:
                outcome.kills[activity(root, first)] += 1
                process.kill()
                process.wait()
                latest_of(root)
        check(start(corpus, root).wait(), log_of(root))
        expected, found = contents(latest_of(clean)), contents(latest_of(root))
        names = {name for name in {*expected, *found} if expected.get(name) != found.get(name)}
        outcome.problem = ", ".join(sorted(names))
        if len(list((root / VERSIONS_FOLDER).iterdir())) != 2:
            outcome.problem += " more than two versions"
    except RuntimeError as error:
        outcome.problem = str(error)
    shutil.rmtree(root)
    at = ", ".join(f"{name} {count}" for name, count in outcome.kills.items())
    print(f"{root.name}: killed at {at}: {outcome.problem or 'the same'}", file=sys.stderr, flush=True)
    return outcome


def measure(kills: int, seed: int, minutes: float, folder: Path) -> list[Outcome]:
    """Kill so many rebuilds in all, but begin no ROOT after so many minutes; return what became of each.

    Raises:
        RuntimeError: a rebuild that was not killed failed.
    """
    corpus, base, clean = ChangingCorpus(folder / "corpus", _IMAGES), folder / "base", folder / "clean"
    check(start(corpus.folder, base).wait(), log_of(base))
    corpus.change(added=4, changed=3, removed=2, edited=3)
    shutil.copytree(base, clean)
    began = time.monotonic()
    check(start(corpus.folder, clean).wait(), log_of(clean))
    seconds = time.monotonic() - began
    outcomes: list[Outcome] = []

    def work(numbers: range) -> None:
        for number in numbers:
            left = kills - sum(outcome.kills.total() for outcome in outcomes)
            if left <= 0 or time.monotonic() > began + 60 * minutes:
                return
            root = folder / f"root-{seed}-{number}"
            outcome = kill_and_rebuild(corpus.folder, base, clean, root, min(_KILLS_A_ROOT, left), seconds)
            outcomes.append(outcome)

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        list(pool.map(work, [range(first, 2 * kills, _SIDE_BY_SIDE) for first in range(_SIDE_BY_SIDE)]))
    return outcomes


def main(argv: Sequence[str] | None = None) -> int:
    """Print how many kills left a whole version, and what the rebuilds were at; on stderr a line a ROOT."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60, help="begin no ROOT later; the kills are then fewer")
    parser.add_argument("--dir", help="folder for everything, 100 MB (default: the system's)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        outcomes = measure(args.kills, args.seed, args.minutes, Path(folder))
    total = sum((outcome.kills for outcome in outcomes), Counter[str]())
    good = sum(outcome.kills.total() for outcome in outcomes if not outcome.problem)
    print("killed at: " + ", ".join(f"{name} {total[name]}" for name in (START, SHARDS, EXPORTS, END, NAMED)))
    print(f"{good} of {total.total()} kills left {LATEST} naming a whole version, in {len(outcomes)} folders")
    return 1 if any(outcome.problem for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
