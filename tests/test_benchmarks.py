"""The benchmarks: both sides do the same work, the numbers are what they claim to be, the tables keep their rows."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks import bit_flips, detector, end_to_end, exports, feeding, imports, kills
from benchmarks.deviation import deviation, together
from benchmarks.full_size_weights import caffe_layers, calibrate, random_network, write_caffemodel
from benchmarks.gpu import busy_between, busy_samples
from benchmarks.support import straight_port
from benchmarks.support.kill_places import Disk, disk
from benchmarks.support.marked_table import Table, markdown, with_rows
from benchmarks.support.photographs import photographs
from region_features.detector import Detector
from region_features.detector.architecture import Architecture, Stage
from region_features.detector.preprocess import prepare
from region_features.records.region_record import RegionRecord
from region_features.records.settings import SelectionRule
from tests.conftest import TINY_WEIGHTS, tree_bytes, write_photo

# A network that detectron2 can build (the depth of ResNet-50, widths that double), as narrow as possible.
NARROW = Architecture(
    stem=8,
    stages=(Stage(3, 8, 16), Stage(4, 16, 32), Stage(6, 32, 64), Stage(3, 64, 128)),
    rpn=32,
    classes=50,
    attributes=10,
    embedding=8,
    attribute_hidden=16,
)
PLACES = "before\n<!-- detector speed -->\n{}\n<!-- end of detector speed -->\nbetween\n"
PLACES += "<!-- detector deviation -->\n<!-- end of detector deviation -->\nafter\n"
GPU_ROW = "| this detector, bfloat16 | some GPU | 150 | 151 | 9 | 9 | 9 MB | 50% of a matmul |"


@dataclass(frozen=True, eq=False)
class Regions:
    """The arrays of which a deviation is computed."""

    boxes: NDArray[np.float32]
    features: NDArray[np.float32]
    cls_prob: NDArray[np.float32]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.set_num_threads(2)
    path = tmp_path_factory.mktemp("weights") / "narrow.caffemodel"
    network = random_network(NARROW, 0)
    calibrate(network)
    write_caffemodel(str(path), caffe_layers(network, NARROW))
    return str(path)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_the_command_rewrites_the_rows_of_its_own_machine(
    narrow: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photo(tmp_path / "photo.png", 1, (120, 160))
    readme = tmp_path / "README.md"
    old = detector.measured_on("cpu", 2)
    rows = [cells(GPU_ROW), ["old", old, *"123456"]]
    readme.write_text(PLACES.format(markdown(detector.SPEED_HEADER, rows)))
    assert detector.main([narrow, str(tmp_path / "photo.png"), "--rounds", "1", "--write", str(readme)]) == 0
    lines = readme.read_text().splitlines()
    assert [lines[0], lines[-1]] == ["before", "after"] and "between" in lines
    speed = [cells(line) for line in lines[lines.index("<!-- detector speed -->") + 3 : lines.index("between") - 1]]
    assert speed[0] == cells(GPU_ROW)
    assert [row[0] for row in speed[1:]] == ["straight port", "detectron2's modules", "this detector, float32"]
    for row in speed[1:]:
        assert row[1] == old and len(row) == len(detector.SPEED_HEADER)
        assert all(float(number) > 0 for number in row[2:6]) and row[6].endswith(" MB") and row[7] == ""
    (exact,) = [cells(line) for line in lines if line.startswith("| float32 with the straight port")]
    assert len(exact) == len(detector.EXACTNESS_HEADER) and exact[1] == old
    assert exact[2:4] == ["100%", "100.0%"] and float(exact[4]) <= 0.02
    assert all(0 < float(number) <= 5e-5 for number in exact[5:])
    # GMACs an image: straight port 10.2, detectron2's modules 10.2
    words = capsys.readouterr().out.splitlines()[0].replace(",", "").split()
    assert float(words[-1]) == pytest.approx(float(words[5]), rel=0.01)


@pytest.mark.parametrize(
    ("more_flags", "message"),
    [
        (lambda folder: ["--write", str(folder / "empty.md")], "empty.md: expected a comment <!-- detector speed -->"),
        (lambda folder: [str(folder / "empty.md")], "empty.md: expected an image"),
        (lambda folder: ["--precision", "float16", "--rounds", "1"], "float16"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(
    more_flags: Callable[[Path], list[str]],
    message: str,
    narrow: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty.md").write_text("nothing")
    with pytest.raises(SystemExit) as stopped:
        detector.main([narrow, *more_flags(tmp_path)])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_weights_that_detectron2_cannot_build_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        detector.main([str(TINY_WEIGHTS)])
    assert stopped.value.code == 2
    assert "(1, 1, 2, 2) blocks" in capsys.readouterr().err.splitlines()[-1]


def test_the_straight_port_gives_the_detectors_records() -> None:
    torch.set_num_threads(2)
    photos = [prepare(f"photo_{i}", image) for i, image in enumerate(photographs([]))]
    port = straight_port.load(str(TINY_WEIGHTS), "cpu")
    records = Detector.load(str(TINY_WEIGHTS), "cpu", SelectionRule()).detect(photos)
    assert len(photos) == 3
    for photo, record in zip(photos, records, strict=True):
        assert isinstance(record, RegionRecord)
        plain = straight_port.detect(port, photo)
        apart = deviation(record, plain)
        assert apart.same_boxes == 1 and max(apart.feature, apart.probability) <= 5e-5 and apart.box <= 0.02
        assert abs(np.sort(record.attrs.max(axis=1)) - np.sort(plain.attrs.max(axis=1))).max() <= 5e-5


def test_the_program_is_measured_from_jpegs_to_shards() -> None:
    measured = end_to_end.measure(str(TINY_WEIGHTS), "cpu", "float32", 10, [])
    assert measured["busy"] is None
    assert measured["rate"] is not None and measured["rate"] > 0
    assert measured["peak"] is not None and measured["peak"] > 1e8


def test_the_program_feeds_a_network_that_only_waits(tmp_path: Path) -> None:
    for number in range(70):
        write_photo(tmp_path / "photos" / f"{number}.png", number)
    rate, busy = feeding.measure(tmp_path / "photos", rate=1000)
    assert rate > 0 and busy == pytest.approx(rate / 1000)


def test_every_export_is_timed_beside_a_copy_of_its_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--records", "2", "--rounds", "1", "--outputs", "tsv6,butd-vqa,imagecaptioning", "--dir", str(tmp_path)]
    assert exports.main(flags) == 0
    rows = [cells(line) for line in capsys.readouterr().out.splitlines() if line.startswith("| `")]
    forms = [f"`imagecaptioning`, ImageCaptioning{form}Export" for form in ("", "Files")]
    assert sorted(row[0] for row in rows) == sorted(["`tsv6`", "`butd-vqa`", *forms])
    row_bytes = 36 * (2048 + 4) * 4 * 4 / 3 / 1e3
    assert float(rows[0][1]) == pytest.approx(row_bytes, rel=0.01)
    assert all(float(number) > 0 for row in rows for number in row[1:])
    assert list(tmp_path.iterdir()) == []


def test_every_import_is_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert imports.main(["--records", "2", "--formats", "tsv6", "--dir", str(tmp_path)]) == 0
    rows = [cells(line) for line in capsys.readouterr().out.splitlines() if line.startswith("| `")]
    assert [row[0] for row in rows] == ["`tfrecord`", "`tsv6`, Tsv6Export"]
    assert all(float(number) > 0 for row in rows for number in row[1:]) and list(tmp_path.iterdir()) == []


def test_the_first_fifth_of_the_batches_is_left_out() -> None:
    batches = [(float(i), 8) for i in range(9)] + [(9.0, 3)]
    assert end_to_end.steady(batches[::-1]) == (1.0, 9.0, 7 * 8 + 3)
    with pytest.raises(ValueError, match="at least two batches"):
        end_to_end.steady(batches[:1])


def test_nvidia_smi_is_sampled_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text('#!/bin/sh\necho "$@" > "$0.asked"\necho 90\necho 30\nexec sleep 60\n')
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="1-2"))
    with busy_samples() as samples:
        while len(samples) < 2:
            time.sleep(0.01)
    assert "-i GPU-1-2 --query-gpu=utilization.gpu" in Path(f"{smi}.asked").read_text()
    assert busy_between(samples, 0, float("inf")) == pytest.approx(0.6)
    with pytest.raises(ValueError, match="expected samples"):
        busy_between(samples, -2, -1)


def test_a_deviation_matches_rows_by_box() -> None:
    rng = np.random.default_rng(0)
    corners = np.arange(4, dtype=np.float32)[:, None] * 50
    boxes = np.concatenate([corners, corners, corners + 39, corners + 39], axis=1)
    regions = Regions(boxes, rng.random((4, 6), np.float32), rng.random((4, 3), np.float32))
    turned = Regions(boxes[::-1] + np.float32(0.5), regions.features[::-1], regions.cls_prob[::-1])
    equal = deviation(turned, regions)
    assert (equal.same_boxes, equal.kept, equal.feature, equal.probability, equal.mean) == (1, 1, 0, 0, 0)
    assert equal.box == 0.5
    features = regions.features.copy()
    features[2, 3] += 0.25
    other = Regions(np.where(np.arange(4)[:, None] == 0, boxes + 300, boxes), features, regions.cls_prob)
    moved = deviation(other, regions)
    assert (moved.same_boxes, moved.kept, moved.box) == (0, 0.75, 0)
    assert moved.feature == pytest.approx(0.25)
    assert moved.relative == pytest.approx(0.25 / regions.features.max())
    assert moved.mean == pytest.approx(0.25 / 18 / regions.features.mean(), rel=1e-5)
    both = together([equal, moved])
    assert (both.same_boxes, both.kept, both.box) == (0.5, 0.875, 0.5)


def test_rows_of_other_machines_stay_where_they_are() -> None:
    def table(*rows: tuple[str, str]) -> Table:
        return Table("t", ("what", "on"), rows)

    text = with_rows("x\n<!-- t -->\n<!-- end of t -->\ny", table(("a", "cpu"), ("b", "cpu")))
    text = with_rows(text, table(("a", "gpu")))
    text = with_rows(text, table(("c", "cpu")))
    expected = markdown(("what", "on"), [("c", "cpu"), ("a", "gpu")])
    assert text == f"x\n<!-- t -->\n{expected}\n<!-- end of t -->\ny"
    with pytest.raises(ValueError, match="add both"):
        with_rows("x <!-- t -->", table(("a", "cpu")))


# A program with an unfinished file, which it deletes at its end with those of the killed ones, or without.
SLOW_PROGRAM = """
import os, pathlib, sys, time
out = pathlib.Path(sys.argv[1])
out.mkdir(exist_ok=True)
(out / f".tmp-{os.getpid()}").touch()
time.sleep(1)
(out / "result").write_text("whole")
for path in out.glob(PATTERN):
    path.unlink()
"""


class KilledInMidWork(subprocess.Popen[bytes]):
    """A process that is waited for until it is in the midst of its work, where there is a limit to the wait."""

    def wait(self, timeout: float | None = None) -> int:
        while timeout is not None:
            if Path(str(self.args[-1]), f".tmp-{self.pid}").exists():  # type: ignore[index]
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.01)
        return super().wait()


@pytest.mark.parametrize(
    ("pattern", "is_sound"), [('".tmp-*"', True), ('f".tmp-{os.getpid()}"', False)], ids=["cleans up", "leaves files"]
)
def test_kills_that_leave_a_trace_are_counted(
    pattern: str,
    is_sound: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = SLOW_PROGRAM.replace("PATTERN", pattern)

    def start(place: Disk, output: str, log: Path) -> subprocess.Popen[bytes]:
        log.touch()
        return KilledInMidWork([sys.executable, "-S", "-c", program, str(place.folder / output)])

    monkeypatch.setattr(Disk, "start", start)
    assert kills.main(["--kills", "2", "--dir", str(tmp_path)]) == (0 if is_sound else 1)
    shown = capsys.readouterr()
    assert shown.out.splitlines()[0] == "killed at: start 2, shards 0, exports 0, end 0"
    assert shown.out.splitlines()[1].startswith("2 of 2 kills" if is_sound else "0 of 2 kills")
    assert (".tmp-" in shown.err) is not is_sound


def test_flipped_bits_of_an_output_are_found(tmp_path: Path) -> None:
    log, output = tmp_path / "log", tmp_path / "out"
    with disk(tmp_path) as place:
        kills.check(place.start("out", log).wait(), log)
    before = tree_bytes(output)
    flipped, missed = bit_flips.measure(output, 4, seed=0)
    assert flipped.total() == 4 and missed == []
    assert tree_bytes(output) == before


def test_a_flipped_bit_that_verify_overlooks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"\0")
    monkeypatch.setattr(bit_flips, "complaint", lambda _: "")
    _, missed = bit_flips.measure(tmp_path, 2, seed=0)
    assert len(missed) == 2 and missed[0].startswith("file, bit ") and missed[0].endswith(": not found")
    assert (tmp_path / "file").read_bytes() == b"\0"
