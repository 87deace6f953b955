"""Write what is made from the flags themselves: `python tools/flags_page.py docs/flags.md`, or `make docs`.

The page of flags goes to the path given, the Flex Template's metadata to deploy/template/metadata.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from beam_pipeline.dataflow.template import metadata
from beam_pipeline.flags.options import flags_table

_METADATA = Path(__file__).resolve().parents[1] / "deploy" / "template" / "metadata.json"
_INTRODUCTION = """# Flags

`python -m beam_pipeline` takes these flags; `--help` prints the same. Each is declared in
`beam_pipeline/flags/config.py`, from which this page is generated (`make docs`). Every path may be local or
`gs://`. All of Beam's own flags pass through; anything else is an error that names the nearest flag.

"""


def main(argv: list[str]) -> int:
    """Write both files."""
    Path(argv[0]).write_text(_INTRODUCTION + flags_table(), encoding="utf-8")
    described = json.dumps(metadata(), ensure_ascii=False, indent=2) + "\n"
    _METADATA.write_text(described, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
