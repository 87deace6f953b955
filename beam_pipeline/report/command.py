"""`python -m beam_pipeline.report OUT`: the page on a run, built from its shards where it is not current."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from beam_pipeline.flags.types import path
from beam_pipeline.pipeline import main as run_pipeline
from beam_pipeline.usage import Parser, UsageError, one_line
from region_features.exports.report import ReportExport
from transforms import files
from transforms.manifest import PLAN


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Returns:
        Exit status: as that of `beam_pipeline`: 0, 1 where the run failed that the page is on, 2 for wrong use.
    """
    parser = Parser(
        prog="python -m beam_pipeline.report",
        description="Write OUT/report/index.html, a page on a run that works without a network: counts, failures, "
        "charts, pictures with their boxes. The same as `python -m beam_pipeline --output OUT --outputs report`.",
    )
    parser.add_argument("output", metavar="OUT", type=path, help="the --output of a run, local or gs://")
    try:
        args = parser.parse_args(argv)
        if PLAN not in files.list_folder(args.output):
            raise UsageError(f"{args.output}: expected the --output of a run ({PLAN}), found none; check the path")
    except (UsageError, OSError) as error:
        print(f"report: {one_line(error)}", file=sys.stderr)
        return 2
    return run_pipeline(["--output", args.output, "--outputs", ReportExport.name])
