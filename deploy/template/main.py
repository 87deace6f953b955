"""What Dataflow's launcher runs in the image; alone in its folder, so that it hides no module of Python's."""

import sys

from beam_pipeline.process import run_command

if __name__ == "__main__":
    sys.exit(run_command("beam_pipeline.dataflow.template"))
