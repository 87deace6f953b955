"""What several tests need: photographs, a COCO corpus made of them, the narrow network's weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
TINY_WEIGHTS = ROOT / "tests" / "data" / "tiny.caffemodel"
# Recordings and photographs that may not be committed: there on the project's own machines only.
RECORDINGS = ROOT.parent / "shared" / "golden"
REAL_TSV = RECORDINGS / "coco10_obj36.tsv"


def write_photo(path: Path, seed: int, size: tuple[int, int] = (30, 40)) -> None:
    """A PNG or JPEG of random blocks, never black at its first pixel."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(40, 255, (size[0] // 5, size[1] // 5, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(blocks.repeat(5, 0).repeat(5, 1)).save(path)


def karpathy_row(folder: str, name: str, coco_id: int, split: str, count: int = 5) -> dict[str, Any]:
    """One image of dataset_coco.json."""
    sentences = [
        {"tokens": ["a", "b"], "raw": f"Café {coco_id} number {i}. ", "imgid": coco_id, "sentid": coco_id * 10 + i}
        for i in range(count)
    ]
    return {
        "filepath": folder,
        "sentids": [row["sentid"] for row in sentences],
        "filename": name,
        "imgid": coco_id,
        "split": split,
        "sentences": sentences,
        "cocoid": coco_id,
    }


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A corpus of 7 train, 5 val and 3 test images; one image has no captions, one caption row no image."""
    root = tmp_path / "mscoco"
    rows = []
    for folder, ids in (("train2014", range(9, 16)), ("val2014", range(100, 105)), ("test2015", range(3))):
        for coco_id in ids:
            name = f"COCO_{folder}_{coco_id:012d}.jpg"
            write_photo(root / "images" / folder / name, coco_id)
            if folder != "test2015" and coco_id != 104:
                split = {100: "test", 101: "val", 102: "restval"}.get(coco_id, "train")
                rows.append(karpathy_row(folder, name, coco_id, split, 5 + coco_id % 2))
    rows.append(karpathy_row("val2014", "COCO_val2014_000000000777.jpg", 777, "test"))
    (root / "dataset_coco.json").write_text(json.dumps({"images": rows, "dataset": "coco"}))
    (root / "test1k_ids.txt").write_text("777\n100\n")
    return root


def tree_bytes(folder: Path) -> dict[str, bytes]:
    """Relative path -> content of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
