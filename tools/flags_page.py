"""Write docs/flags.md from the flags themselves: `python tools/flags_page.py docs/flags.md`, or `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from beam_pipeline.options import flags_table

_INTRODUCTION = """# Flags

`python -m beam_pipeline` takes these flags; `--help` prints the same. Each is declared in `beam_pipeline/config.py`,
from which this page is generated (`make docs`). Every path may be local or `gs://`. All of Beam's own flags pass
through; anything else is an error that names the nearest flag.

"""


def main(argv: list[str]) -> int:
    """Write the page to the path given."""
    Path(argv[0]).write_text(_INTRODUCTION + flags_table(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
