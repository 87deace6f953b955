"""The command line of a rebuild: its own flags, and those of the run that makes a version."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from beam_pipeline.exports import SHARDS
from beam_pipeline.flags.config import Config
from beam_pipeline.flags.options import parse_args
from beam_pipeline.flags.types import path, positive
from beam_pipeline.flags.worker_paths import with_paths_for, workers_of
from beam_pipeline.usage import Parser, UsageError

# What a rebuild decides by itself.
_REFUSED = {
    "--output": "a rebuild names its output by itself, ROOT/versions/TIME",
    "--reuse": "a rebuild reuses its latest version by itself",
    "--overwrite": "a rebuild never overwrites a version; delete ROOT/latest.json to build everything anew",
    "--no_wait": "a rebuild waits for its job, to name the version once it is whole",
    "--template_location": "a rebuild runs its job, to name the version once it is whole",
}


@dataclass(frozen=True)
class Options:
    """The command line.

    Attributes:
        root: the folder of the versions.
        keep_versions: how many to keep, None for all.
        checksum: whether the content of every image is compared with that of the latest version.
        run_flags: the flags of a run.
    """

    root: str
    keep_versions: int | None
    checksum: bool
    run_flags: tuple[str, ...]


def parse_options(argv: Sequence[str]) -> Options:
    """Read the command line.

    Raises:
        UsageError: wrong use, in one line.
        SystemExit: after --help.
    """
    parser = Parser(
        prog="python -m beam_pipeline.rebuild",
        usage="%(prog)s ROOT [--keep_versions N] [flags of python -m beam_pipeline]",
        description="Build the next version of a corpus that changes, in ROOT/versions/TIME, and name it in "
        "ROOT/latest.json once it is whole. Records of unchanged images are taken over from the latest version; where "
        "nothing changed, there is no new version. Run the same command again after any end.",
        epilog="All flags of `python -m beam_pipeline`, Beam's own among them, are those of the run that makes the "
        "version, but for " + ", ".join(_REFUSED) + ". Exit status: 0 done or nothing changed, 1 the run failed, 2 "
        "wrong use or another rebuild is at work, 130 interrupted, 143 terminated.",
    )
    parser.add_argument("root", metavar="ROOT", type=path, help="folder of the versions, local or gs://; comes first")
    parser.add_argument(
        "--keep_versions",
        metavar="N",
        type=positive,
        help="delete all but the N newest whole versions, the latest among them (default: all stay); one that a lease "
        "or a run holds stays",
    )
    parser.add_argument(
        "--checksum",
        action="store_true",
        help="read every image and compare its content, also where size and time are the same; there is a new version "
        "only if one differs",
    )
    for flag in _REFUSED:
        parser.add_argument(flag, nargs="?", const="", help=argparse.SUPPRESS)
    if argv and argv[0].startswith("-") and argv[0] not in ("-h", "--help"):
        raise UsageError(f"expected ROOT, the folder of the versions, before all flags, got {argv[0]}")
    known, run_flags = parser.parse_known_args(argv)
    for flag, reason in _REFUSED.items():
        if getattr(known, flag.removeprefix("--")) is not None:
            raise UsageError(f"{flag}: {reason}; leave it out")
    return Options(known.root.rstrip("/") or "/", known.keep_versions, known.checksum, tuple(run_flags))


def config_of_version(options: Options, output: str, reuse: str | None) -> tuple[Config, list[str]]:
    """Return what a version's run is asked for, and Beam's own flags.

    Args:
        options: of the rebuild.
        output: folder of the version.
        reuse: the output whose records it takes over, None for none.

    Raises:
        UsageError: wrong use, in one line.
    """
    config, beam_flags = parse_args([*options.run_flags, "--output", output])
    if reuse is not None and not config.imports:  # imported records cost nothing to import again
        config = dataclasses.replace(config, reuse=reuse, checksum=options.checksum)
        config = with_paths_for(workers_of(beam_flags), config)
    if not config.detects:
        raise UsageError(f"--outputs: a version is whole by itself; add {SHARDS} to it")
    return config, beam_flags
