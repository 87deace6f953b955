"""`python -m beam_pipeline.report`."""

import sys

from beam_pipeline.process import run_command

if __name__ == "__main__":
    sys.exit(run_command("beam_pipeline.report.command"))
