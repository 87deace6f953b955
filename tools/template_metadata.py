"""Write the Flex Template's metadata from the flags: `tools/template_metadata.py deploy/template/metadata.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from beam_pipeline.dataflow.template import metadata


def main(argv: list[str]) -> int:
    """Write the file to the path given."""
    Path(argv[0]).write_text(json.dumps(metadata(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
