"""Make the tutorial's pictures anew: `python tools/tutorial_pictures.py docs/pictures`. Needs Chromium.

It runs what the tutorial says, on the photos of tools/sample_photos.py and the small network of random numbers.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

_ROOT = Path(__file__).resolve().parents[1]
_WEIGHTS = _ROOT / "tests" / "data" / "tiny.caffemodel"
_WIDTH, _QUALITY = 900, 78
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")


def _run(folder: Path, *command: object) -> None:
    subprocess.run([sys.executable, *map(str, command)], cwd=folder, env={"PYTHONPATH": str(_ROOT)}, check=True)


def _save(image: Image.Image, path: Path) -> None:
    height = round(image.height * _WIDTH / image.width)
    image.convert("RGB").resize((_WIDTH, height), Image.Resampling.LANCZOS).save(path, quality=_QUALITY, optimize=True)


def _photos(folder: Path) -> Image.Image:
    """Return eight photos beside each other."""
    sheet = Image.new("RGB", (4 * 330 - 10, 2 * 250 - 10), "white")
    for number, path in enumerate(sorted(folder.glob("*.jpg"))[:8]):
        sheet.paste(Image.open(path).resize((320, 240)), (number % 4 * 330, number // 4 * 250))
    return sheet


def _shoot(page: Path, folder: Path) -> None:
    """Take pictures of the report: its numbers, its gallery, an enlarged photo."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(_FLAGS))
        tab = browser.new_page(viewport={"width": 1200, "height": 760})
        tab.goto(page.as_uri())
        for name in ("numbers", "gallery"):
            tab.locator(f"#{name}").evaluate("(section) => window.scrollTo(0, section.offsetTop)")
            tab.wait_for_timeout(500)
            tab.screenshot(path=folder / f"{name}.png")
        tab.locator("#gallery .stage").first.click()
        tab.wait_for_timeout(500)
        tab.screenshot(path=folder / "zoom.png")
        browser.close()


def main(argv: Sequence[str]) -> int:
    """Write photos.jpg, drawn.jpg, report_numbers.jpg, report_gallery.jpg and report_zoom.jpg into a folder."""
    target = Path(argv[0]).absolute()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        _run(work, _ROOT / "tools" / "sample_photos.py", "photos", "24")
        outputs = ("--output", "out", "--outputs", "tfrecord,lmdb,report")
        _run(work, "-m", "beam_pipeline", "--images", "photos", "--weights", _WEIGHTS, *outputs)
        _run(work, "-m", "beam_pipeline.inspect", "out", "photo_0001", "--draw", "drawn.png", "--top", "8")
        _save(_photos(work / "photos"), target / "photos.jpg")
        _save(Image.open(work / "drawn.png"), target / "drawn.jpg")
        _shoot(work / "out" / "report" / "index.html", work)
        for shot in ("numbers", "gallery", "zoom"):
            _save(Image.open(work / f"{shot}.png"), target / f"report_{shot}.jpg")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
