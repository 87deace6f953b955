"""What a large corpus costs before its first record: time and peak memory of a run with captions.

    python -m benchmarks.planning --images 1000000

The images are names in a list file, five captions each; one image that is there comes first in its shard, so that a
record is made. The network is a fake. The run is stopped at its first record.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from beam_pipeline.pipeline import main as run
from benchmarks.support.full_size_fake import FullSizeHandler, keep_pixels
from benchmarks.support.marked_table import markdown
from region_features.records.coco import CAPTIONS_FILE
from transforms.metrics import local_counts
from transforms.shards import IMAGES_WRITTEN

_WEIGHTS = Path(__file__).parent.parent / "tests" / "data" / "tiny.caffemodel"
_WORDS = [
    "a",
    "man",
    "riding",
    "a",
    "wave",
    "on",
    "top",
    "of",
    "a",
    "surfboard",
    "in",
    "the",
    "ocean",
    "with",
    "his",
    "dog",
]


def write_corpus(folder: Path, images: int) -> None:
    """Write the list file, the captions and the one image."""
    rng = np.random.default_rng(0)
    photos = folder / "train2014"
    photos.mkdir()
    Image.fromarray(rng.integers(1, 255, (48, 64, 3), np.uint8)).save(photos / "COCO_train2014_000000000000.png")
    with (folder / "list.txt").open("w") as names, (folder / CAPTIONS_FILE).open("w") as captions:
        captions.write('{"images": [')
        for number in range(images):
            name = f"COCO_train2014_{number:012d}.png"
            names.write(f"{photos / name}\n")
            tokens = rng.permutation(_WORDS).tolist()
            raw = f"{' '.join(tokens)}."
            ids = range(5 * number, 5 * number + 5)
            sentences = [{"tokens": tokens, "raw": raw, "imgid": number, "sentid": sentid} for sentid in ids]
            row = {"filepath": "train2014", "sentids": list(ids), "filename": name, "imgid": number, "split": "train"}
            row |= {"sentences": sentences, "cocoid": number}
            captions.write((", " if number else "") + json.dumps(row))
        captions.write('], "dataset": "coco"}')


def run_to_first_record(folder: Path) -> None:
    """Run the program; print seconds and peak memory at its first record, and end."""
    began = time.monotonic()

    def watch() -> None:
        while not local_counts().get(IMAGES_WRITTEN):
            time.sleep(0.1)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(json.dumps({"seconds": time.monotonic() - began, "peak": peak}), flush=True)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    flags = ["--images", f"{folder}/list.txt", "--captions", f"{folder}/{CAPTIONS_FILE}", "--weights", str(_WEIGHTS)]
    run([*flags, "--output", f"{folder}/out", "--failure_threshold", "1"], FullSizeHandler(), keep_pixels)


def main(argv: Sequence[str]) -> None:
    """Write the corpus, run in a process of its own, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.once:
        run_to_first_record(args.once)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder), args.images)
        command = [sys.executable, "-m", "benchmarks.planning", "--once", folder]
        done = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    row = (f"{args.images:,}", f"{done['seconds']:.0f}", f"{done['peak']:,.0f}")
    print(markdown(("images with captions", "seconds to the first record", "peak memory, MB"), [row]))


if __name__ == "__main__":
    main(sys.argv[1:])
