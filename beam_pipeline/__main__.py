"""`python -m beam_pipeline`, and the console script `region-features`."""

import sys

from beam_pipeline.environment import require, version_line
from beam_pipeline.process import run_command


def main() -> int:
    """Run the program on the process's arguments; answer --version where Beam is not installed, too."""
    if sys.argv[1:] == ["--version"]:
        print(version_line())
        return 0
    require("beam")
    return run_command("beam_pipeline.pipeline")


if __name__ == "__main__":
    sys.exit(main())
