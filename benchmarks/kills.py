"""Kill the program with SIGKILL at random moments and run it again: is the output in the end that of a clean run?

    python -m benchmarks.kills --kills 200
    python -m benchmarks.kills --kills 60 --gs      # on a storage emulator, behind a network that meets faults

The whole program runs, with a narrow network on a small corpus with captions and a broken image, and makes every
output but the report, which holds times. Each output begins with a run that is killed; each rerun is killed with
probability 3/4, until one may end. The moments are uniform over the time that a clean run takes, from the start of its
process. Exit status: 1 if an output differs from a clean run's in any file, if an unfinished file remains, or if a run
that was not killed fails.
"""

from __future__ import annotations

import argparse
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

from benchmarks.support.kill_places import SETS, SHARDS_A_SET, Place, bucket, disk
from region_features.records.stats import STATS_SUFFIX
from transforms.manifest import MANIFEST

_RERUN_IS_KILLED = 0.75
# What a run was at when it was killed: at the end a manifest stands, that of an earlier run included.
START, SHARDS, EXPORTS, END = "start", "shards", "exports", "end"


@dataclass
class Outcome:
    """What became of one output: what its killed runs were at, and what is wrong with it, empty if nothing is."""

    kills: Counter[str] = field(default_factory=Counter)
    problem: str = ""


@dataclass(frozen=True)
class Task:
    """One output to make: how many of its runs are killed, within so many seconds of their start, until a deadline."""

    output: str
    kills: int
    seconds: float
    deadline: float
    seed: str


def kill_and_rerun(place: Place, logs: Path, clean: str, task: Task) -> Outcome:
    """Make an output by runs that are killed and a last one that ends; compare it with that of a clean run."""
    output, log = task.output, logs / f"{task.output}.log"
    outcome, rng = Outcome(), random.Random(task.seed)
    if time.monotonic() > task.deadline:
        return outcome
    try:
        while outcome.kills.total() < task.kills:  # a rerun of little work may end before its moment
            process = place.start(output, log)
            try:
                check(process.wait(rng.uniform(0, task.seconds)), log)
            except subprocess.TimeoutExpired:
                outcome.kills[activity(place, output, process.pid)] += 1
                process.kill()
                process.wait()
                time.sleep(place.rest_seconds())
        check(place.start(output, log).wait(), log)
        outcome.problem = difference(place, output, clean)
    except RuntimeError as error:
        outcome.problem = str(error)
    kills = ", ".join(f"{name} {count}" for name, count in outcome.kills.items())
    print(f"{output}: killed at {kills}: {outcome.problem or 'the same'}", file=sys.stderr, flush=True)
    return outcome


def check(status: int, log: Path) -> None:
    """Raise a RuntimeError with the last messages of a run that failed."""
    if status:
        raise RuntimeError(f"a run that was not killed ended with status {status}: {log.read_text()[-2000:].strip()}")


def activity(place: Place, output: str, pid: int) -> str:
    """Return what the run of that process is at, by the files of its output."""
    owner = place.owner(output)
    if not owner or owner["pid"] != pid:
        return START
    names = place.names(output)
    if MANIFEST in names:
        return END
    whole = sum(name.endswith(STATS_SUFFIX) for name in names)
    return EXPORTS if whole == len(SETS) * SHARDS_A_SET else SHARDS


def difference(place: Place, output: str, clean: str) -> str:
    """Name what differs between two outputs, unfinished files and folders included; empty if no byte does."""
    contents = [place.contents(output), place.contents(clean)]
    missing = b"missing"
    names = {name for content in contents for name in content}
    return ", ".join(sorted(name for name in names if len({c.get(name, missing) for c in contents}) > 1))


def measure(place: Place, kills: int, seed: int, minutes: float, logs: Path) -> list[Outcome]:
    """Kill so many runs in all, but begin no output after so many minutes; return what became of each output.

    Raises:
        RuntimeError: a clean run failed, or they differ.
    """
    clean = [f"clean{number}" for number in range(place.side_by_side)]
    began = time.monotonic()
    processes = [(place.start(output, logs / f"{output}.log"), logs / f"{output}.log") for output in clean]
    for process, log in processes:
        check(process.wait(), log)
    seconds = time.monotonic() - began
    for other in clean[1:]:
        if names := difference(place, clean[0], other):
            raise RuntimeError(f"clean runs differ: {names}")
    rng = random.Random(seed)
    tasks: list[Task] = []
    while (left := kills - sum(task.kills for task in tasks)) > 0:
        count = 1
        while count < left and rng.random() < _RERUN_IS_KILLED:
            count += 1
        name = f"output-{len(tasks)}"
        tasks.append(Task(name, count, seconds, began + 60 * minutes, f"{seed} {name}"))
    with ThreadPoolExecutor(place.side_by_side) as pool:
        outcomes = list(pool.map(lambda task: kill_and_rerun(place, logs, clean[0], task), tasks))
    return [outcome for outcome in outcomes if outcome.kills or outcome.problem]


def main(argv: Sequence[str] | None = None) -> int:
    """Print how many kills left no trace, and what the runs were at; on stderr a line an output, with its problem."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60, help="begin no output later; the kills are then fewer")
    parser.add_argument("--gs", action="store_true", help="corpus, weights and outputs on a storage emulator")
    parser.add_argument("--fault_rate", type=float, default=0.05, help="with --gs: share of requests that meet a fault")
    parser.add_argument("--dir", help="folder for the outputs, 12 MB each (default: the system's)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=args.dir) as name:
        folder = Path(name)
        with bucket(folder, args.fault_rate, args.seed) if args.gs else disk(folder) as place:
            outcomes = measure(place, args.kills, args.seed, args.minutes, folder)
            faults = place.faults()
    total = sum((outcome.kills for outcome in outcomes), Counter[str]())
    good = sum(outcome.kills.total() for outcome in outcomes if not outcome.problem)
    at = ", ".join(f"{name} {total[name]}" for name in (START, SHARDS, EXPORTS, END))
    print(f"killed at: {at}")
    if faults:
        print("faults met: " + ", ".join(f"{name} {count}" for name, count in sorted(faults.items())))
    print(f"{good} of {total.total()} kills left no trace in {len(outcomes)} outputs")
    return 1 if any(outcome.problem for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
