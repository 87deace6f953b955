"""Images are decoded at once only as far as their pixels fit into --decode_memory."""

from __future__ import annotations

import gc
import threading
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from region_features.images.batches import BatchLoader, ImageBatch
from region_features.images.decode import decode_image, working_bytes
from region_features.images.decode_memory import DecodeMemory
from region_features.records.failure import ImageFailure
from region_features.records.item import CaptionedImage
from region_features.records.plan import ImageRef, ShardKey
from region_features.records.prepared_image import PreparedImage
from tests.samples.fakes import fake_prepare
from tests.samples.images import LIMIT, encode, photo
from transforms import images as images_module
from transforms.images import load_item

SIDES = (40, 40, 90, 20, 40, 150, 20, 90, 40, 40, 20, 150, 40, 40, 90, 20)


class FakeDecoder:
    """Decodes as the real one; tracks the estimated bytes of all images between decoding and the end of preparing."""

    def __init__(self, broken: int = -1) -> None:
        self.held = self.peak = self.most_at_once = self.at_once = 0
        self.broken = broken
        self.lock = threading.Lock()

    def decode(self, data: bytes, pixel_limit: int, exif: bool = False) -> Any:
        with self.lock:
            self.held += working_bytes(data)
            self.at_once += 1
            self.peak, self.most_at_once = max(self.peak, self.held), max(self.most_at_once, self.at_once)
        pixels = decode_image(data, pixel_limit, exif)
        if pixels.shape[0] == self.broken:
            self.release(pixels.shape[0])
            raise ImageFailure("decode", "broken")
        return pixels

    def prepare(self, img_id: str, pixels: Any) -> PreparedImage:
        threading.Event().wait(0.005)
        prepared = fake_prepare(img_id, pixels)
        self.release(pixels.shape[0])
        return prepared

    def release(self, side: int) -> None:
        with self.lock:
            self.held -= 15 * side * side
            self.at_once -= 1


def load_all(folder: Path, monkeypatch: pytest.MonkeyPatch, decoder: FakeDecoder, decode_memory: int) -> ImageBatch:
    monkeypatch.setattr(images_module, "decode_image", decoder.decode)
    refs = []
    for name, side in zip("abcdefghijklmnop", SIDES, strict=True):
        path = folder / f"{name}.png"
        Image.new("RGB", (side, side)).save(path)
        refs.append(ImageRef("photos", name, str(path), -1))
    load = partial(load_item, prepare=decoder.prepare, pixel_limit=LIMIT, decode_memory=decode_memory)
    loader = BatchLoader(load, len(SIDES))
    loader.add(ShardKey("photos", 0, 1, len(SIDES)), [CaptionedImage(ref, None) for ref in refs])
    batch = next(loader.batches())
    loader.close()
    return batch


def test_decoded_images_stay_within_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = FakeDecoder()
    limit = 15 * 3 * 90 * 90
    batch = load_all(tmp_path, monkeypatch, decoder, limit)
    assert [prepared.height for _, prepared in batch if isinstance(prepared, PreparedImage)] == list(SIDES)
    assert 0 < decoder.peak <= limit
    assert decoder.most_at_once > 1 and decoder.held == 0


def test_images_over_the_memory_are_decoded_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = FakeDecoder()
    batch = load_all(tmp_path, monkeypatch, decoder, 1)
    assert [prepared.height for _, prepared in batch if isinstance(prepared, PreparedImage)] == list(SIDES)
    assert decoder.most_at_once == 1


def test_a_broken_image_gives_its_memory_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = load_all(tmp_path, monkeypatch, FakeDecoder(broken=150), 15 * 150 * 150)
    assert [isinstance(result, ImageFailure) for _, result in batch] == [side == 150 for side in SIDES]


def test_a_failure_does_not_hold_the_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode(photo(), "PNG"))
    held = []

    def refuse(img_id: str, pixels: Any) -> PreparedImage:
        held.append(weakref.ref(pixels))
        raise ImageFailure("decode", "refused")

    image = CaptionedImage(ImageRef("photos", "a", str(path), -1), None)
    _, failure = load_item(ShardKey("photos", 0, 1, 1), image, refuse, LIMIT)
    gc.collect()
    assert isinstance(failure, ImageFailure) and failure.reason == "refused"
    assert len(held) == 1 and held[0]() is None


def test_a_small_reservation_passes_a_waiting_large_one() -> None:
    memory, passed = DecodeMemory(), threading.Event()

    def ask(size: int) -> None:
        with memory.reserve(size, 10):
            passed.set()

    with memory.reserve(6, 10):
        large = threading.Thread(target=ask, args=(11,))
        large.start()
        assert not passed.wait(0.05)
        with memory.reserve(4, 10):
            pass
    assert passed.wait(60)
    large.join()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_working_bytes_come_from_the_header(kind: str) -> None:
    data = encode(photo(20, 30), kind)
    assert working_bytes(data) == 600 * (18 if kind == "WEBP" else 15)
    assert working_bytes(b"") == working_bytes(b"I am text") == working_bytes(data[:3]) == 0
