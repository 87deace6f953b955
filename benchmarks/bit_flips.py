"""Flip one random bit of one random file of an output, run `verify`, restore the bit: is every flip found?

    python -m benchmarks.bit_flips --flips 400

The output is that of `benchmarks.kills`: every export of a small corpus. Files are drawn uniformly, whatever their
size: shards, LMDBs, TSVs, annotations, hard negatives, notes, stats, the plan, the manifest and its digest. Exit
status: 1 if a flip is not found, or if `verify` ends with anything but a report or a message of its own.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from beam_pipeline.usage import UsageError
from beam_pipeline.verify.command import verify
from benchmarks.kills import check
from benchmarks.support.kill_places import disk


def flip(path: Path, bit: int) -> None:
    """Flip a bit of a file in place; twice restores it."""
    with open(path, "r+b") as stream:
        stream.seek(bit // 8)
        (byte,) = stream.read(1)
        stream.seek(bit // 8)
        stream.write(bytes([byte ^ 1 << bit % 8]))


def complaint(output: Path) -> str:
    """Return the first problem that `verify` finds in an output, or the error that ends it; empty if all is well."""
    try:
        problems = verify(str(output)).problems
    except (UsageError, OSError) as error:  # the command prints one line of it
        return str(error)
    return problems[0].message if problems else ""


def measure(output: Path, flips: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Flip so many bits, one at a time.

    Returns:
        Flips by the suffix of the file's name, and a line for each flip that was not found.

    Raises:
        RuntimeError: `verify` finds something wrong before the first flip or after the last.
    """
    rng = random.Random(seed)
    paths = sorted(path for path in output.rglob("*") if path.is_file() and path.stat().st_size)
    kinds, missed = Counter[str](), []
    _expect_sound(output)
    for _ in range(flips):
        path = rng.choice(paths)
        bit = rng.randrange(8 * path.stat().st_size)
        flip(path, bit)
        try:
            found = complaint(output)
        except Exception as error:
            missed.append(f"{path.relative_to(output)}, bit {bit}: verify broke: {error!r}")
        else:
            missed += [] if found else [f"{path.relative_to(output)}, bit {bit}: not found"]
        finally:
            flip(path, bit)
        kinds[path.suffix] += 1
    _expect_sound(output)
    return kinds, missed


def _expect_sound(output: Path) -> None:
    if problem := complaint(output):
        raise RuntimeError(f"{output}: expected nothing wrong without a flip, got: {problem}")


def main(argv: Sequence[str] | None = None) -> int:
    """Make an output, flip its bits, print what was not found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with disk(folder) as place:
            check(place.start("out", folder / "log").wait(), folder / "log")
        kinds, missed = measure(folder / "out", args.flips, args.seed)
    for line in missed:
        print(line)
    print("flips by kind of file: " + ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())))
    print(f"{args.flips - len(missed)} of {args.flips} found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
