"""`python -m beam_pipeline.download`."""

import sys

from beam_pipeline.process import run_command

if __name__ == "__main__":
    sys.exit(run_command("beam_pipeline.download.command"))
