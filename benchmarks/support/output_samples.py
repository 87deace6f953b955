"""An output folder of full-size records, for the benchmarks that read one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from beam_pipeline.pipeline import main
from benchmarks.support.full_size_fake import FullSizeHandler, keep_pixels

_WEIGHTS = Path(__file__).resolve().parents[2] / "tests" / "data" / "tiny.caffemodel"


def write_output(folder: Path, records: int) -> Path:
    """Runs the pipeline on `records` small images with random results of full size; gives its output folder."""
    images = folder / "photos"
    images.mkdir()
    rng = np.random.default_rng(0)
    for number in range(records):
        Image.fromarray(rng.integers(1, 255, (48, 64, 3), np.uint8)).save(images / f"{number:06d}.png")
    output = folder / "out"
    flags = ["--images", str(images), "--weights", str(_WEIGHTS), "--output", str(output)]
    if main(flags, FullSizeHandler(), keep_pixels):
        raise RuntimeError("the run failed")
    return output
