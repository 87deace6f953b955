"""`python -m beam_pipeline.weights`."""

import sys

from beam_pipeline.process import run_command

if __name__ == "__main__":
    sys.exit(run_command("beam_pipeline.weights.command"))
