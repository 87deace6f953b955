"""`python -m beam_pipeline.inspect`; this folder has no `__init__.py`, or it would hide Python's own `inspect`."""

import sys

from beam_pipeline.show import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
