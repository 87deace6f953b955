"""The program: flags, checks before the start, the graph, the run."""

import sys

from beam_pipeline.preflight.environment import require

# What Python sets while it looks for the module of `python -m beam_pipeline...`: one line for every command of ours
# where Beam is missing, in place of an ImportError's stack.
if sys.argv[0] == "-m" and "--version" not in sys.argv:
    require("beam")
