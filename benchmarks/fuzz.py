"""Feed damaged input to every parser of foreign bytes, guided by the lines of code that it reaches (libFuzzer).

    pip install atheris
    python -m benchmarks.fuzz --minutes 60

A finding is whatever escapes a parser but the errors that it promises, a crash, more than 10 s, or more than 300 MB
for one input. Findings are saved in `--dir`, `--replay FILE --target NAME` repeats one; exit status 1 if there are any.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

MOST_MB, MOST_SECONDS = 300, 10
_MOST_FINDINGS = 20
_MORE_OPTIONS = [
    "-rss_limit_mb=4096",
    f"-timeout={MOST_SECONDS}",
    "-max_len=20000",
    "-print_final_stats=1",
    "-verbosity=1",
]


def fuzz_target(name: str, seconds: int, folder: Path, seed: int) -> tuple[int, list[Path]]:
    """Fuzz one parser in a process of its own; return how many inputs it got, and the files of its findings."""
    work = folder / re.sub(r"\W", "_", name)
    corpus, findings, log = work / "corpus", work / "findings", work / "log"
    corpus.mkdir(parents=True, exist_ok=True)
    findings.mkdir(exist_ok=True)
    runs, end = 0, time.monotonic() + seconds
    while (left := int(end - time.monotonic())) > 0 and len(list(findings.iterdir())) < _MOST_FINDINGS:
        child = os.fork()
        if not child:
            options = [f"-max_total_time={left}", f"-artifact_prefix={findings}/", f"-seed={seed}", *_MORE_OPTIONS]
            _run(name, [str(corpus), *options], log)
        _, status = os.waitpid(child, 0)
        counts = re.findall(rb"stat::number_of_executed_units: (\d+)", log.read_bytes())
        runs += int(counts[-1]) if counts else 0
        seed += 1
        if status == 0:
            break
    return runs, sorted(path for path in findings.iterdir() if path.suffix != ".txt")


def _run(name: str, options: list[str], log: Path) -> None:
    """Become the fuzzer of a parser; never returns."""
    import atheris

    from benchmarks.support.fuzz_target import NESTED, feed
    from benchmarks.support.fuzz_targets import TARGETS

    target = TARGETS[name]
    for number, data in enumerate([*target.seeds(), *NESTED]):
        Path(options[0], f"seed-{number}").write_bytes(data)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)

    known = set()

    def run_one(data: bytes) -> None:
        before = _peak_mb()
        try:
            feed(target, data)
            grown = _peak_mb() - before
            if grown > MOST_MB:
                raise MemoryError(f"{grown:.0f} MB for {len(data)} bytes")
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            if (type(error), place.filename, place.lineno) not in known:
                known.add((type(error), place.filename, place.lineno))
                path = log.with_name("findings") / f"escaped-{hashlib.sha1(data).hexdigest()}"
                path.write_bytes(data)
                path.with_suffix(".txt").write_text(traceback.format_exc())

    atheris.Setup(["fuzz", *options], run_one)
    atheris.Fuzz()


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz for so many minutes in all, print inputs and findings of each parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--target", action="append", help="of the parsers these; default all")
    parser.add_argument("--dir", type=Path, help="keep inputs and findings here; default: a new temporary folder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", type=Path, help="give this file to the one --target")
    args = parser.parse_args(argv)
    import atheris

    with atheris.instrument_imports(
        include=["region_features", "beam_pipeline", "transforms", "zipfile", "pickletools"]
    ):
        from benchmarks.support.fuzz_target import feed
        from benchmarks.support.fuzz_targets import TARGETS
    names = args.target or list(TARGETS)
    if args.replay:
        feed(TARGETS[names[0]], args.replay.read_bytes())
        return 0
    folder = args.dir or Path(tempfile.mkdtemp(prefix="fuzz-"))
    found = 0
    for name in names:
        runs, findings = fuzz_target(name, int(args.minutes * 60 / len(names)), folder, args.seed)
        found += len(findings)
        print(f"{name}: {runs:,} inputs, {len(findings)} findings", *findings, sep="\n  ", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
