"""`python -m beam_pipeline`, and the console script `region-features`."""

import sys

from beam_pipeline.preflight.environment import require, version_line
from beam_pipeline.process import run_command
from beam_pipeline.usage import SHORT_USAGE


def main() -> int:
    """Run the program on the process's arguments; answer --version where Beam is not installed, too.

    Returns:
        Exit status.
    """
    if sys.argv[1:] == ["--version"]:
        print(version_line())
        return 0
    require("beam")
    if not sys.argv[1:]:
        print(SHORT_USAGE, file=sys.stderr)
        return 2
    return run_command("beam_pipeline.pipeline")


if __name__ == "__main__":
    sys.exit(main())
