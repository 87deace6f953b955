"""Kill the program with SIGKILL at random moments and run it again: is the output in the end that of a clean run?

    python -m benchmarks.kills --kills 200

The whole program runs, with a narrow network on a small corpus with captions and a broken image, and makes every
output. Each output begins with a run that is killed; each rerun is killed with probability 3/4, until one may end. The
moments are uniform over the time that a clean run takes, from the start of its process. Exit status: 1 if an output
differs from a clean run's in any file, if an unfinished file remains, or if a run that was not killed fails.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from beam_pipeline.exports import OUTPUTS
from beam_pipeline.output_lock import LOCK
from region_features.records.coco import CAPTIONS_FILE, TEST1K_FILE
from region_features.records.stats import STATS_SUFFIX
from transforms.manifest import MANIFEST, SHARDS_FOLDER

_ROOT = Path(__file__).resolve().parents[1]
_SETS = ("train2014", "val2014", "test2015")
_SPLITS = ("train", "restval", "val", "test")
_IMAGES, _SHARDS = 4, 3
_SIDE_BY_SIDE = 2
_RERUN_IS_KILLED = 0.75
# What a run was at when it was killed: at the end a manifest stands, that of an earlier run included.
START, SHARDS, EXPORTS, END = "start", "shards", "exports", "end"


@dataclass
class Outcome:
    """What became of one output: what its killed runs were at, and what is wrong with it, empty if nothing is."""

    kills: Counter[str] = field(default_factory=Counter)
    problem: str = ""


def write_corpus(folder: Path) -> Path:
    """Write a corpus in COCO's layout: three sets of four images, captions, and an image that is broken."""
    rng = np.random.default_rng(2014)
    rows = []
    for position, image_set in enumerate(_SETS):
        (folder / "images" / image_set).mkdir(parents=True)
        for number in range(_IMAGES):
            coco_id = 10 * position + number + 1
            name = f"COCO_{image_set}_{coco_id:012d}.jpg"
            blocks = rng.integers(40, 255, (2, 16, 3), dtype=np.uint8)  # wide: few pixels for the network
            Image.fromarray(blocks.repeat(10, 0).repeat(10, 1)).save(folder / "images" / image_set / name)
            sentences = [{"raw": f"caption {i} of {coco_id}", "sentid": coco_id * 10 + i} for i in range(5)]
            row = {"filename": name, "cocoid": coco_id, "split": _SPLITS[number], "sentences": sentences}
            rows += [row] if image_set != "test2015" else []
    (folder / "images" / "val2014" / "COCO_val2014_000000000099.jpg").write_bytes(b"broken")
    (folder / CAPTIONS_FILE).write_text(json.dumps({"images": rows, "dataset": "coco"}))
    (folder / TEST1K_FILE).write_text("4\n14\n")
    return folder


def start(corpus: Path, output: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a run that makes every output; its messages go to `log`."""
    flags = ["--corpus", corpus, "--output", output, "--weights", _ROOT / "tests" / "data" / "tiny.caffemodel"]
    flags += ["--outputs", ",".join(OUTPUTS), "--num_shards", _SHARDS, "--negatives_pool", 4, "--device", "cpu"]
    command = [sys.executable, "-m", "beam_pipeline", *map(str, flags), "--failure_threshold", "0.5"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with open(log, "wb") as stream:
        return subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=stream)


@dataclass(frozen=True)
class Task:
    """One output to make: how many of its runs are killed, within so many seconds of their start, until a deadline."""

    output: Path
    kills: int
    seconds: float
    deadline: float
    seed: str


def kill_and_rerun(corpus: Path, clean: Path, task: Task) -> Outcome:
    """Make an output by runs that are killed and a last one that ends; compare it with that of a clean run."""
    output, log = task.output, task.output.with_suffix(".log")
    outcome, rng = Outcome(), random.Random(task.seed)
    if time.monotonic() > task.deadline:
        return outcome
    try:
        while outcome.kills.total() < task.kills:  # a rerun of little work may end before its moment
            process = start(corpus, output, log)
            try:
                check(process.wait(rng.uniform(0, task.seconds)), log)
            except subprocess.TimeoutExpired:
                outcome.kills[activity(output, process.pid)] += 1
                process.kill()
                process.wait()
        check(start(corpus, output, log).wait(), log)
        outcome.problem = difference(output, clean)
    except RuntimeError as error:
        outcome.problem = str(error)
    kills = ", ".join(f"{name} {count}" for name, count in outcome.kills.items())
    print(f"{output.name}: killed at {kills}: {outcome.problem or 'the same'}", file=sys.stderr, flush=True)
    return outcome


def check(status: int, log: Path) -> None:
    """Raise a RuntimeError with the last messages of a run that failed."""
    if status:
        raise RuntimeError(f"a run that was not killed ended with status {status}: {log.read_text()[-2000:].strip()}")


def activity(output: Path, pid: int) -> str:
    """Return what the run of that process is at, by the files of its output."""
    try:
        owner = json.loads((output / f"{LOCK}.owner").read_text())
    except (OSError, ValueError):
        return START
    if owner["pid"] != pid:
        return START
    if (output / MANIFEST).exists():
        return END
    whole = len(list((output / SHARDS_FOLDER).glob(f"*{STATS_SUFFIX}")))
    return EXPORTS if whole == len(_SETS) * _SHARDS else SHARDS


def difference(output: Path, clean: Path) -> str:
    """Name what differs between two outputs, unfinished files and folders included; empty if no byte does."""
    contents = [
        {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
        for folder in (output, clean)
    ]
    missing = b"missing"
    names = {name for content in contents for name in content}
    return ", ".join(sorted(name for name in names if len({c.get(name, missing) for c in contents}) > 1))


def measure(kills: int, seed: int, minutes: float, folder: Path) -> list[Outcome]:
    """Kill so many runs in all, but begin no output after so many minutes; return what became of each output.

    Raises:
        RuntimeError: a clean run failed, or two of them differ.
    """
    corpus = write_corpus(folder / "corpus")
    clean = [folder / f"clean{number}" for number in range(_SIDE_BY_SIDE)]
    began = time.monotonic()
    processes = [(start(corpus, output, output.with_suffix(".log")), output.with_suffix(".log")) for output in clean]
    for process, log in processes:
        check(process.wait(), log)
    seconds = time.monotonic() - began
    if names := difference(*clean):
        raise RuntimeError(f"two clean runs differ: {names}")
    rng = random.Random(seed)
    tasks: list[Task] = []
    while (left := kills - sum(task.kills for task in tasks)) > 0:
        count = 1
        while count < left and rng.random() < _RERUN_IS_KILLED:
            count += 1
        name = f"output-{len(tasks)}"
        tasks.append(Task(folder / name, count, seconds, began + 60 * minutes, f"{seed} {name}"))
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        outcomes = list(pool.map(lambda task: kill_and_rerun(corpus, clean[0], task), tasks))
    return [outcome for outcome in outcomes if outcome.kills or outcome.problem]


def main(argv: Sequence[str] | None = None) -> int:
    """Print how many kills left no trace, and what the runs were at; on stderr a line an output, with its problem."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60, help="begin no output later; the kills are then fewer")
    parser.add_argument("--dir", help="folder for the outputs, 12 MB each (default: the system's)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        outcomes = measure(args.kills, args.seed, args.minutes, Path(folder))
    total = sum((outcome.kills for outcome in outcomes), Counter[str]())
    good = sum(outcome.kills.total() for outcome in outcomes if not outcome.problem)
    at = ", ".join(f"{name} {total[name]}" for name in (START, SHARDS, EXPORTS, END))
    print(f"killed at: {at}")
    print(f"{good} of {total.total()} kills left no trace in {len(outcomes)} outputs")
    return 1 if any(outcome.problem for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
