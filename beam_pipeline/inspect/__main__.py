"""`python -m beam_pipeline.inspect`; this folder has no `__init__.py`, or it would hide Python's own `inspect`."""

import sys

from beam_pipeline.process import run_command

if __name__ == "__main__":
    sys.exit(run_command("beam_pipeline.inspect.command"))
