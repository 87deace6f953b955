"""Records of full size taken over by a run with `--reuse`: rewritten with edited captions, and as whole linked shards.

    python -m benchmarks.reuse --images 2000

The network is a fake that may not be called after the first run. Seconds are those of the whole program, its start
included; the plain copy is of the same shards' bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from beam_pipeline.pipeline import main as run
from benchmarks.support.child import peak_bytes
from benchmarks.support.full_size_fake import FullSizeHandler, keep_pixels
from benchmarks.support.marked_table import markdown
from region_features.records.coco import CAPTIONS_FILE

_WEIGHTS = Path(__file__).parent.parent / "tests" / "data" / "tiny.caffemodel"


def write_corpus(folder: Path, images: int) -> None:
    """Write small images and no captions yet."""
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for number in range(images):
        Image.fromarray(rng.integers(1, 255, (48, 64, 3), np.uint8)).save(folder / "photos" / f"{number:06d}.png")


def write_captions(folder: Path, images: int, text: str) -> None:
    """Write one caption an image."""
    rows = [
        {"filename": f"{number:06d}.png", "cocoid": number, "split": "train"}
        | {"sentences": [{"raw": f"{text} {number}", "sentid": number}]}
        for number in range(images)
    ]
    (folder / CAPTIONS_FILE).write_text(json.dumps({"images": rows}))


def timed(folder: Path, output: str, *flags: str) -> tuple[float, dict[str, int]]:
    """Run the program; return its seconds, and the manifest's counts."""
    began = time.perf_counter()
    argv = ["--images", f"{folder}/photos", "--captions", f"{folder}/{CAPTIONS_FILE}", "--weights", str(_WEIGHTS)]
    argv += ["--output", f"{folder}/{output}", "--outputs", "tfrecord", *flags]
    if run(argv, FullSizeHandler(), keep_pixels):
        raise RuntimeError("the run failed")
    seconds = time.perf_counter() - began
    return seconds, json.loads((folder / output / "manifest.json").read_text())["counts"]


def main(argv: Sequence[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--dir", help="where to work; default the folder for temporary files")
    args = parser.parse_args(argv)
    rows = []
    with tempfile.TemporaryDirectory(dir=args.dir) as name:
        folder = Path(name)
        write_corpus(folder, args.images)
        write_captions(folder, args.images, "first")
        seconds, _ = timed(folder, "first")
        rows.append(("computed by the fake", seconds))
        began = time.perf_counter()
        shutil.copytree(folder / "first" / "tfrecord", folder / "copy")
        for path in (folder / "copy").iterdir():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        rows.append(("plain copy, waited for until it is on the disk", time.perf_counter() - began))
        seconds, counts = timed(folder, "linked", "--reuse", f"{folder}/first")
        assert counts["reused"] == args.images
        rows.append(("whole shards, linked", seconds))
        write_captions(folder, args.images, "second")
        seconds, counts = timed(folder, "rewritten", "--reuse", f"{folder}/first")
        assert counts["reused"] == args.images
        rows.append(("rewritten, with other captions", seconds))
    table = [(what, f"{seconds:.1f}", f"{args.images / seconds:,.0f}") for what, seconds in rows]
    print(markdown((f"{args.images:,} records", "seconds", "records/s"), table))
    print(f"peak memory of all: {peak_bytes('cpu') / 1e6:,.0f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
