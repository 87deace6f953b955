"""`Detector.load(weights)(path)`: image files to regions with names and a picture; a list of files to a list."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from region_features import Detector
from region_features.detector import DetectionError
from region_features.detector.detection import Detection
from region_features.detector.local_images import BATCH
from region_features.detector.preprocess import prepare
from region_features.drawing.regions import draw_regions
from region_features.images.decode import decode_image
from region_features.names import visual_genome
from tests.conftest import write_photo
from tests.detector.conftest import assert_identical


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    write_photo(tmp_path / "photo_1.png", 1, (120, 160))
    return tmp_path / "photo_1.png"


def test_a_file_gives_its_record_names_and_picture(detector: Detector, photo: Path) -> None:
    detection = detector(photo)
    pixels = decode_image(photo.read_bytes(), 10**6)
    (record,) = detector.detect([prepare("photo_1", pixels)])
    assert_identical(record, detection.record)
    assert detection.path == str(photo) and detection.record.img_id == "photo_1"
    assert detection.boxes is detection.record.boxes and detection.features is detection.record.features
    names = visual_genome()
    assert detection.names is names and len(detection) == 36
    assert detection.phrases == [names.phrase(detection.record, row) for row in range(36)]
    best = int(np.argmax(detection.record.objects_conf))
    assert repr(detection).startswith(f"<Detection {photo}: 36 regions; {names.describe(detection.record, best)}; ")
    expected = draw_regions(pixels, detection.record, names, top=5, min_confidence=0.1)
    assert detection.draw(top=5, min_confidence=0.1).tobytes() == expected.tobytes()


def test_a_list_gives_a_list_in_order_with_the_reasons_of_the_bad(detector: Detector, photo: Path) -> None:
    (photo.parent / "bad.jpg").write_text("no image")
    Image.new("RGB", (1, 1)).save(photo.parent / "dot.png")
    paths = [photo, *(photo.parent / name for name in ("bad.jpg", "none.jpg", "dot.png")), *[photo] * BATCH]
    results = detector([*map(str, paths[:2]), *paths[2:]])
    assert isinstance(detector([]), list) and not detector([])
    assert len(results) == len(paths)
    assert [type(result) for result in results[:4]] == [Detection, DetectionError, FileNotFoundError, DetectionError]
    assert str(results[1]).startswith(f"{photo.parent / 'bad.jpg'}: not an image of a known format")
    assert str(results[3]).startswith(f"{photo.parent / 'dot.png'}: ") and "too small" in str(results[3])
    for result in results[4:]:
        assert isinstance(result, Detection) and isinstance(results[0], Detection)
        assert_identical(result.record, results[0].record)


def test_one_bad_file_is_raised(detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no image")
    with pytest.raises(DetectionError, match=r"bad\.jpg: not an image of a known format"):
        detector(tmp_path / "bad.jpg")
    with pytest.raises(FileNotFoundError, match=r"none\.jpg"):
        detector(str(tmp_path / "none.jpg"))
    with pytest.raises(IsADirectoryError):
        detector(tmp_path)


def test_addresses_and_pixels_are_refused_with_the_reason(detector: Detector, photo: Path) -> None:
    for address in ("https://host/a.jpg", "gs://bucket/a.jpg"):
        with pytest.raises(
            ValueError, match=f"{address}: expected the path of a local file; the detector fetches noth"
        ):
            detector([photo, address])
    with pytest.raises(TypeError, match="expected the path of an image or a list of paths, got int"):
        detector(7)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"got ndarray; for pixels, use `region_features\.detector\."):
        detector([np.zeros((3, 3, 3), np.uint8)])  # type: ignore[list-item]


def test_exif_turns_the_image_and_its_picture(detector: Detector, tmp_path: Path) -> None:
    write_photo(tmp_path / "p.png", 1, (120, 160))
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(tmp_path / "p.png") as image:
        image.save(tmp_path / "p.jpg", exif=exif)
    stored, turned = detector(tmp_path / "p.jpg"), detector(tmp_path / "p.jpg", exif=True)
    assert (stored.record.img_w, stored.record.img_h) == (160, 120)
    assert (turned.record.img_w, turned.record.img_h) == (120, 160)
    assert turned.draw().size == (450, 600)


def test_a_picture_of_a_file_that_was_replaced_is_refused(detector: Detector, photo: Path) -> None:
    detection = detector(photo)
    write_photo(photo, 1, (60, 40))
    with pytest.raises(DetectionError, match=r"photo_1\.png: image photo_1: expected 160 x 120 pixels as its"):
        detection.draw()
