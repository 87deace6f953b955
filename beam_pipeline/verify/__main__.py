"""`python -m beam_pipeline.verify`."""

import sys

from beam_pipeline.verify import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
