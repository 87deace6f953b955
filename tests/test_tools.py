"""The tools: the detectron2 wheel from an archive made here, the sample corpus from scikit-image's photographs."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
import io
import json
import re
import runpy
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from tests.conftest import ROOT, tree_bytes

TRANSFORM = "detectron2/data/transforms/transform.py"
SOURCES = {
    "LICENSE": b"Apache License\n",
    "PKG-INFO": b"Name: pb1-detectron2\n",
    "setup.py": b"raise SystemExit('never run')\n",
    "detectron2/__init__.py": b'__version__ = "0.6"\n',
    TRANSFORM: b"def f(interp=Image.LINEAR): ...\n",
    "detectron2/model_zoo/configs/Base-RCNN-C4.yaml": b"MODEL: {}\n",
}


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


wheel_tool = load("detectron2_wheel")
corpus_tool = load("sample_corpus")


def make_archive(path: Path, sources: dict[str, bytes], link: tuple[str, str] | None = None) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in sources.items():
            info = tarfile.TarInfo(f"pb1-detectron2-0.6/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(f"pb1-detectron2-0.6/{link[0]}")
            info.type, info.linkname = tarfile.SYMTYPE, link[1]
            tar.addfile(info)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def build(tmp_path: Path, sources: dict[str, bytes], link: tuple[str, str] | None = None) -> Path:
    archive = tmp_path / "source.tar.gz"
    return Path(wheel_tool.build_wheel(archive, tmp_path / "dist", make_archive(archive, sources, link)))


def test_wheel_holds_the_patched_sources_and_nothing_else(tmp_path: Path) -> None:
    path = build(tmp_path, SOURCES)
    with zipfile.ZipFile(path) as wheel:
        files = {name: wheel.read(name) for name in wheel.namelist()}
    info = "detectron2-0.6.dist-info"
    assert path.name == "detectron2-0.6-py3-none-any.whl"
    assert set(files) == {
        *(name for name in SOURCES if name.startswith("detectron2/")),
        "detectron2/_C.py",
        *(f"{info}/{name}" for name in ("LICENSE", "METADATA", "WHEEL", "RECORD", "top_level.txt")),
    }
    assert files["detectron2/_C.py"] == b""
    assert files[TRANSFORM] == b"def f(interp=Image.BILINEAR): ...\n"
    assert files["detectron2/__init__.py"] == SOURCES["detectron2/__init__.py"]
    metadata = files[f"{info}/METADATA"].decode().splitlines()
    assert {"Name: detectron2", "Version: 0.6", "Requires-Dist: yacs>=0.1.8"} <= set(metadata)
    assert "Tag: py3-none-any" in files[f"{info}/WHEEL"].decode().splitlines()


def test_wheel_record_has_the_hash_and_size_of_every_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(build(tmp_path, SOURCES)) as wheel:
        names = wheel.namelist()
        files = {name: wheel.read(name) for name in names}
    assert names[-1].endswith("/RECORD")
    rows = list(csv.reader(files[names[-1]].decode().splitlines()))
    assert sorted(row[0] for row in rows) == sorted(names)
    for name, digest, size in rows[:-1]:
        expected = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).decode().rstrip("=")
        assert (digest, int(size)) == (f"sha256={expected}", len(files[name]))
    assert rows[-1] == [names[-1], "", ""]


def test_wheel_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    first = build(tmp_path, SOURCES).read_bytes()
    assert build(tmp_path, dict(reversed(SOURCES.items()))).read_bytes() == first
    assert not list((tmp_path / "dist").glob("*.partial"))


def test_wheel_refuses_an_archive_with_another_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = tmp_path / "source.tar.gz"
    actual = make_archive(archive, SOURCES)
    assert wheel_tool.main([str(tmp_path / "dist"), "--archive", str(archive)]) == 1
    error = capsys.readouterr().err
    assert str(archive) in error and actual in error and wheel_tool.ARCHIVE_SHA256 in error
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize(
    ("sources", "link", "message"),
    [
        ({**SOURCES, "../../outside.py": b""}, None, "expected paths inside the archive"),
        ({**SOURCES, "detectron2/../setup.cfg": b""}, None, "expected paths inside the archive"),
        ({**SOURCES, "detectron2/..\\outside.py": b""}, None, "expected paths inside the archive"),
        (SOURCES, ("detectron2/model_zoo/link", "/etc/passwd"), "got a link"),
        (SOURCES, ("LICENSE", "setup.py"), "got a link"),
        ({**SOURCES, TRANSFORM: b"Image.BILINEAR"}, None, "expected 'Image.LINEAR' once, found it 0 times"),
        ({**SOURCES, "detectron2/_C.py": b"x"}, None, "expected to be absent"),
        ({"LICENSE": b"", "README": b""}, None, "not detectron2's source archive"),
    ],
)
def test_wheel_refuses_an_archive_it_does_not_know(
    tmp_path: Path, sources: dict[str, bytes], link: tuple[str, str] | None, message: str
) -> None:
    with pytest.raises(wheel_tool.WheelError, match=message):
        build(tmp_path, sources, link)
    assert not (tmp_path / "dist").exists()


def test_every_requirement_is_pinned_and_its_licence_named(monkeypatch: pytest.MonkeyPatch) -> None:
    setup: dict[str, Any] = {}
    monkeypatch.setattr("setuptools.setup", lambda **keywords: setup.update(keywords))
    runpy.run_path(str(ROOT / "setup.py"))
    extras = [name for extra in setup["extras_require"].values() for name in extra]
    requirements = [*setup["install_requires"], *extras, *wheel_tool.REQUIRES]
    assert len(requirements) > 20
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    pattern = re.compile(r"([\w.-]+)==[\w.]+(; (python_version (<|>=) \"3\.\d+\"|sys_platform != \"linux\"))?")
    matches = [pattern.fullmatch(pin) for pin in pins]
    assert [pin for pin, match in zip(pins, matches, strict=True) if match is None] == []
    pinned = {normalised(match[1]) for match in matches if match}
    required = {normalised(re.split(r"[^\w.-]", name)[0]) for name in requirements}
    assert required <= pinned
    rows = re.findall(r"^\| ([\w, -]+) \|", (ROOT / "docs" / "licences.md").read_text(), re.MULTILINE)
    licensed = {normalised(name) for row in rows for name in row.split(", ")}
    detectron2s = {normalised(re.split(r"[^\w.-]", name)[0]) for name in wheel_tool.REQUIRES}
    assert required - detectron2s <= licensed


def test_the_lock_has_every_pin_with_the_hashes_of_its_files() -> None:
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {normalised(re.split(r"\s*;", line)[0]) for line in constraints if not line.startswith("#")}
    locked = re.findall(
        r"^([\w.-]+==[\w.]+)(?: ;[^\\\n]*)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)",
        (ROOT / "requirements.lock").read_text(),
        re.MULTILINE,
    )
    assert {normalised(pin) for pin, _ in locked} == pins  # after a change of a pin: make lock
    assert len(locked) == sum(not line.startswith("#") for line in constraints)


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_installed_detectron2_has_what_the_detector_needs() -> None:
    from detectron2 import model_zoo
    from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY, ROI_HEADS_REGISTRY

    assert Path(model_zoo.get_config_file("COCO-Detection/faster_rcnn_R_101_C4_3x.yaml")).is_file()
    assert "RPN" in PROPOSAL_GENERATOR_REGISTRY and "Res5ROIHeads" in ROI_HEADS_REGISTRY


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "mscoco"
    assert corpus_tool.main([str(folder)]) == 0
    return folder


def test_corpus_has_karpathys_schema(corpus: Path) -> None:
    data = json.loads((corpus / "dataset_coco.json").read_text(encoding="utf-8"))
    assert list(data) == ["images", "dataset"] and data["dataset"] == "coco" and len(data["images"]) == 10
    sentence_ids: list[int] = []
    for number, image in enumerate(data["images"]):
        assert list(image) == ["filepath", "sentids", "filename", "imgid", "split", "sentences", "cocoid"]
        assert image["imgid"] == number
        assert image["filename"] == f"COCO_{image['filepath']}_{image['cocoid']:012d}.jpg"
        assert len(image["sentences"]) == 5
        for sentence in image["sentences"]:
            assert list(sentence) == ["tokens", "raw", "imgid", "sentid"]
            assert sentence["imgid"] == number
            words = sentence["raw"].lower().replace(".", "").replace(",", "").split()
            assert sentence["tokens"] == words
        assert image["sentids"] == [sentence["sentid"] for sentence in image["sentences"]]
        sentence_ids += image["sentids"]
    assert len(set(sentence_ids)) == len(sentence_ids)
    assert {image["split"] for image in data["images"]} == {"train", "restval", "val", "test"}
    assert any(s["raw"].endswith(" ") for image in data["images"] for s in image["sentences"])
    test_ids = {image["cocoid"] for image in data["images"] if image["split"] == "test"}
    assert {int(line) for line in (corpus / "test1k_ids.txt").read_text().splitlines()} < test_ids


def test_corpus_has_the_images_that_its_captions_name(corpus: Path) -> None:
    data = json.loads((corpus / "dataset_coco.json").read_text(encoding="utf-8"))
    named = {corpus / "images" / image["filepath"] / image["filename"] for image in data["images"]}
    assert set(corpus.glob("images/*/*")) == named
    modes = []
    for path in named:
        with Image.open(path) as image:
            image.load()
            assert image.format == "JPEG" and min(image.size) >= 300
            modes.append(image.mode)
    assert set(modes) == {"L", "RGB"} and len(modes) >= 6


def test_corpus_is_the_same_each_time(corpus: Path, tmp_path: Path) -> None:
    assert corpus_tool.main([str(tmp_path / "again")]) == 0
    assert len(tree_bytes(corpus)) == 12
    assert tree_bytes(tmp_path / "again") == tree_bytes(corpus)


def test_corpus_second_run_does_nothing_and_says_so(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    assert corpus_tool.main([str(corpus)]) == 0
    assert "already there, nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before


def test_corpus_leaves_a_folder_that_is_not_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dataset_coco.json").write_text("{}")
    assert corpus_tool.main([str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["dataset_coco.json"]


def test_corpus_starts_again_after_a_run_that_was_cut_off(tmp_path: Path) -> None:
    (tmp_path / "mscoco.partial" / "images").mkdir(parents=True)
    (tmp_path / "mscoco.partial" / "images" / "torn.jpg").write_bytes(b"\xff\xd8")
    assert corpus_tool.main([str(tmp_path / "mscoco")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mscoco"]
    assert not list(tmp_path.rglob("torn.jpg"))


def test_drawn_photos_are_the_same_each_time_and_left_alone(tmp_path: Path) -> None:
    photos = load("sample_photos")
    for _ in range(2):
        assert photos.main([str(tmp_path / "a"), "2"]) == 0
    assert photos.main([str(tmp_path / "b"), "2"]) == 0
    drawn = tree_bytes(tmp_path / "a")
    assert sorted(drawn) == ["photo_0001.jpg", "photo_0002.jpg"] and len(set(drawn.values())) == 2
    assert drawn == tree_bytes(tmp_path / "b")
    with Image.open(tmp_path / "a" / "photo_0001.jpg") as image:
        assert image.size == (640, 480)
