"""Draw photos to try the program on: `python tools/sample_photos.py photos 24` makes landscapes of random numbers.

Nothing is downloaded, and the same number gives the same pictures: hills, a sun or a moon, houses, trees.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT = 640, 480
_SCALE = 2  # drawn larger and made smaller, so that edges are smooth
_SKIES = (((86, 140, 205), (222, 233, 240)), ((248, 160, 90), (250, 225, 180)), ((18, 24, 60), (70, 80, 130)))
_WALLS = ((196, 92, 70), (226, 196, 140), (236, 236, 228), (150, 170, 150))
_ROOFS = ((96, 54, 48), (66, 66, 76), (130, 70, 40))


def draw_landscape(seed: int) -> Image.Image:
    """Return a landscape of 640 x 480 pixels."""
    rng = np.random.default_rng(seed)
    width, height = WIDTH * _SCALE, HEIGHT * _SCALE
    top, bottom = (np.array(colour) for colour in _SKIES[rng.integers(len(_SKIES))])
    share = np.linspace(0, 1, height)[:, None, None]
    sky = np.broadcast_to(top + (bottom - top) * share, (height, width, 3)).astype(np.uint8)
    image = Image.fromarray(sky)
    canvas = ImageDraw.Draw(image)
    radius = int(rng.integers(40, 90))
    x, y = int(rng.integers(radius, width - radius)), int(rng.integers(radius, height // 3))
    canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 238, 190))
    for layer in range(3):
        _draw_hill(canvas, rng, layer, width, height)
    grain = rng.normal(0, 5, (HEIGHT, WIDTH, 1))
    small = image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(0.6))
    return Image.fromarray((np.asarray(small) + grain).clip(0, 255).astype(np.uint8))


def _draw_hill(canvas: ImageDraw.ImageDraw, rng: np.random.Generator, layer: int, width: int, height: int) -> None:
    """Draw a hill and what stands on it; layer 0 is the farthest."""
    across = np.linspace(0, 1, 60)
    line = sum(
        rng.uniform(0.2, 1) / (k + 1) * np.sin(2 * np.pi * (k + 1) * across + rng.uniform(0, 7)) for k in range(4)
    )
    ridge = height * (0.45 + 0.17 * layer) + height * 0.05 * np.asarray(line)
    shade = int(150 - 40 * layer)
    points = list(zip((across * width).tolist(), ridge.tolist(), strict=True))
    canvas.polygon([*points, (width, height), (0, height)], fill=(shade // 2 + 10 * layer, shade, shade // 2))
    for place in rng.uniform(0.05, 0.95, int(rng.integers(1, 4))):
        x, y, size = place * width, float(np.interp(place, across, ridge)), float(30 * (layer + 1) + rng.uniform(0, 40))
        if rng.random() < 0.5:
            _draw_house(canvas, rng, x, y, size)
        else:
            _draw_tree(canvas, rng, x, y, size)


def _draw_house(canvas: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    wall, roof = _WALLS[rng.integers(len(_WALLS))], _ROOFS[rng.integers(len(_ROOFS))]
    canvas.rectangle((x - size, y - size, x + size, y + size * 0.4), fill=wall)
    canvas.polygon([(x - 1.2 * size, y - size), (x + 1.2 * size, y - size), (x, y - 1.9 * size)], fill=roof)
    canvas.rectangle((x - 0.2 * size, y - 0.3 * size, x + 0.2 * size, y + 0.4 * size), fill=roof)
    for side in (-0.7, 0.4):
        canvas.rectangle(
            (x + side * size, y - 0.6 * size, x + (side + 0.3) * size, y - 0.3 * size), fill=(250, 240, 180)
        )


def _draw_tree(canvas: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    canvas.rectangle((x - 0.1 * size, y - size, x + 0.1 * size, y + 0.2 * size), fill=(92, 64, 44))
    green = (int(rng.integers(30, 90)), int(rng.integers(100, 150)), int(rng.integers(30, 80)))
    for _ in range(5):
        dx, dy = rng.uniform(-0.5, 0.5, 2) * size
        canvas.ellipse((x + dx - 0.5 * size, y + dy - 2 * size, x + dx + 0.5 * size, y + dy - size), fill=green)


def main(argv: Sequence[str]) -> int:
    """Write the photos as `photo_0001.jpg` and so on; one that is there is left alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where they go")
    parser.add_argument("count", type=int, nargs="?", default=24, help="how many; default 24")
    args = parser.parse_args(argv)
    args.folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, args.count + 1):
        path = args.folder / f"photo_{number:04d}.jpg"
        if not path.exists():
            draw_landscape(number).save(path, quality=90)
    print(f"{args.folder}: {args.count} photos")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
