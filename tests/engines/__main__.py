"""Run the program on one of Beam's engines, and compare every output byte for byte with a default run.

    python -m tests.engines flink --repeat 20

The engine comes by go or mvn into build/engines, where the outputs go as well; what fails stays there with its log.
Exit status: 1 if it could not be fetched, or a run failed or differed; 2 where go, java or mvn is missing.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.support.kill_places import SETS, write_corpus
from tests.conftest import ROOT
from tests.engines.engine import ENGINES, Engine, MissingToolError
from tests.engines.runs import (
    Corpus,
    RunError,
    check_same,
    job_server,
    kill_after_first_shard,
    run,
    running,
    whole_shards,
    worker_pool,
)
from tools.sample_corpus import publish_corpus

_FOLDER = ROOT / "build" / "engines"
_SHARDS_A_SET = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a run, and how many of each kind had the bytes of a default run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--repeat", type=int, default=1, help="how often each kind of run is made")
    parser.add_argument("--light", action="store_true", help="make runs of `thirty` alone, without killing any")
    parser.add_argument("--fetch", action="store_true", help="only fetch the engine")
    args = parser.parse_args(argv)
    engine = ENGINES[args.engine]
    try:
        command = engine.fetch(_FOLDER / engine.name)
    except MissingToolError as error:
        print(error, file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"{engine.name} could not be fetched: {error}", file=sys.stderr)
        return 1
    if args.fetch:
        return 0
    folder = _FOLDER / "runs" / engine.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with job_server(command, engine.port_flag, folder / "engine.log") as flags:
        kinds = kinds_of_runs(engine, [*flags, *engine.run_flags], folder, args.light)
        good = repeat(kinds, args.repeat, folder)
    for kind in kinds:
        print(f"{engine.name}, {kind}: {good[kind]} of {args.repeat}")
    return 0 if good.total() == args.repeat * len(kinds) else 1


def repeat(kinds: Mapping[str, Callable[[Path], None]], times: int, folder: Path) -> Counter[str]:
    """Make each kind of run so many times, with a line each; count those of each kind that were right."""
    good = Counter[str]()
    for number in range(times):
        for kind, make in kinds.items():
            began = time.monotonic()
            try:
                make(folder / f"{number}-{kind.replace(' ', '-')}")
                problem = "the same bytes"
                good[kind] += 1
            except (RunError, subprocess.TimeoutExpired) as error:
                problem = str(error)
            print(f"{number + 1}, {kind}: {problem} ({time.monotonic() - began:.0f} s)", flush=True)
    return good


def kinds_of_runs(
    engine: Engine, flags: Sequence[str], folder: Path, light: bool
) -> Mapping[str, Callable[[Path], None]]:
    """Make the corpora and their default runs; return what is to be run into an output and compared, by name."""
    (folder / "thirty").mkdir()
    write_corpus(folder / "thirty", images_a_set=30 // len(SETS))
    thirty = Corpus(
        folder / "thirty", len(SETS) * _SHARDS_A_SET, (f"--num_shards={_SHARDS_A_SET}", "--failure_threshold=0.5")
    )
    corpora = [thirty]
    if not light:
        publish_corpus(folder / "demo")
        corpora.insert(0, Corpus(folder / "demo", shards=2))
    kinds: dict[str, Callable[[Path], None]] = {}
    for corpus in corpora:
        run(corpus, folder / f"{corpus.name}-expected", ())
        kinds[corpus.name] = partial(plain_run, corpus, flags)
    if light:
        return kinds
    if engine.kill:
        kinds["killed and run again"] = partial(killed_run, thirty, flags)
    if engine.recover:
        kinds["killed and recovered"] = partial(recovered_run, thirty, (*flags, *engine.recover))
    return kinds


def plain_run(corpus: Corpus, flags: Sequence[str], output: Path) -> None:
    """Run to the end, with the workers in the submitting process."""
    run(corpus, output, flags)
    check_same(output, _expected(corpus))


def killed_run(corpus: Corpus, flags: Sequence[str], output: Path) -> None:
    """Kill the workers after the first shard, which ends the job; run the same command again."""
    with worker_pool(Path(f"{output}.pool.log")) as (pool, pool_flags):
        with running(corpus, output, [*flags, *pool_flags]) as process:
            kill_after_first_shard(process, output, pool)
            if process.wait(900) != 1:
                raise RunError(f"expected status 1 of a run whose workers were killed, got {process.returncode}")
        if not 0 < whole_shards(output) < corpus.shards:
            raise RunError(f"expected some of {corpus.shards} shards to be left, found {whole_shards(output)} whole")
        run(corpus, output, [*flags, *pool_flags])
    check_same(output, _expected(corpus))


def recovered_run(corpus: Corpus, flags: Sequence[str], output: Path) -> None:
    """Kill the workers after the first shard; the engine starts them again."""
    with (
        worker_pool(Path(f"{output}.pool.log")) as (pool, pool_flags),
        running(corpus, output, [*flags, *pool_flags]) as process,
    ):
        kill_after_first_shard(process, output, pool)
        if status := process.wait(900):
            raise RunError(f"expected the job to recover, got status {status}; see {output}.log")
    check_same(output, _expected(corpus))


def _expected(corpus: Corpus) -> Path:
    return corpus.folder.with_name(f"{corpus.name}-expected")


if __name__ == "__main__":
    sys.exit(main())
