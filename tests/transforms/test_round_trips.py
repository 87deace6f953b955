"""What every format holds of a record comes back when it is imported, through every other format that holds as much."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from beam_pipeline.compare.command import main as compare_main
from beam_pipeline.pipeline import main
from region_features.exports.base import Export
from region_features.exports.butd_vqa import ButdVqaExport
from region_features.exports.imagecaptioning import ImageCaptioningExport
from region_features.exports.imagecaptioning_files import ImageCaptioningFilesExport
from region_features.exports.lmdb import LmdbExport
from region_features.exports.m2 import M2Export
from region_features.exports.mmf import MmfExport
from region_features.exports.openvqa import OpenVqaExport
from region_features.exports.parquet import ParquetExport
from region_features.exports.tsv import TsvExport
from region_features.exports.tsv6 import Tsv6Export
from region_features.exports.uniter import UniterExport
from region_features.exports.webdataset import WebDatasetExport
from region_features.records.item import ImageCaptions
from region_features.records.region_record import ARRAY_FIELDS, RegionRecord
from tests.samples.imports import import_all, write_export
from tests.samples.records import make_record

IDS = [f"COCO_val2014_{number:012d}" for number in (7, 42, 391895)]
SIZES = dict.fromkeys(IDS, (480, 640))
NAMES = [ImageCaptions(img_id, int(img_id[-12:]), "val", (), ()) for img_id in IDS]
ALL = tuple(field.name for field in ARRAY_FIELDS)
SHORT = ("boxes", "features")
CLASSES = ("objects_id", "objects_conf", "cls_prob")
# Format -> arrays that come back bit for bit, and whether size and id come back by themselves.
FORMATS: dict[str, tuple[Export, tuple[str, ...], bool]] = {
    "lmdb-volta": (LmdbExport("volta"), ALL, True),
    "lmdb-volta-arrays": (LmdbExport("volta-arrays"), ALL, True),
    "lmdb-safetensors": (LmdbExport("safetensors"), ALL, True),
    "tsv": (TsvExport(), ALL, True),
    "tsv-10": (TsvExport(10), tuple(name for name in ALL if name not in ("cls_prob", "attrs")), True),
    "webdataset": (WebDatasetExport(), ALL, True),
    "parquet": (ParquetExport(), ALL, True),
    "mmf": (MmfExport(), (*SHORT, *CLASSES), True),
    "openvqa": (OpenVqaExport(), SHORT, True),
    "tsv6": (Tsv6Export(), SHORT, False),
    "m2": (M2Export(), (*SHORT, *CLASSES), False),
    "butd-vqa": (ButdVqaExport(), SHORT, False),
    "imagecaptioning": (ImageCaptioningExport(), SHORT, False),
    "imagecaptioning-files": (ImageCaptioningFilesExport(), SHORT, False),
}
WHOLE = [name for name, (_, arrays, _) in FORMATS.items() if arrays == ALL]


def consistent_record(img_id: str) -> RegionRecord:
    """Make a record of 36 boxes whose classes are those of its probabilities, as the network's are."""
    record = make_record(img_id, 36)
    foreground = record.cls_prob[:, 1:]
    return replace(record, objects_id=foreground.argmax(axis=1), objects_conf=foreground.max(axis=1))


RECORDS = [consistent_record(img_id) for img_id in IDS]


def read_back(folder: Path, sizes_held: bool) -> list[RegionRecord]:
    """Import what a folder holds, with the names and sizes beside it where its format has none."""
    found = import_all(folder, sizes=SIZES, names=() if sizes_held else NAMES)
    return [found[img_id] for img_id in IDS]


def assert_arrays(records: list[RegionRecord], expected: list[RegionRecord], names: tuple[str, ...]) -> None:
    for record, whole in zip(records, expected, strict=True):
        assert (record.img_id, record.img_h, record.img_w) == (whole.img_id, whole.img_h, whole.img_w)
        for name in ALL:
            if name in names:
                assert getattr(record, name).tobytes() == getattr(whole, name).tobytes(), name
            else:
                assert record.lacks(name), name


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_gives_back_what_it_holds(name: str, tmp_path: Path) -> None:
    export, arrays, held = FORMATS[name]
    folder = write_export(tmp_path / name, export, RECORDS)
    assert_arrays(read_back(folder, held), RECORDS, arrays)


@pytest.mark.parametrize("last", FORMATS)
@pytest.mark.parametrize("first", WHOLE)
def test_any_format_that_holds_everything_gives_every_other(first: str, last: str, tmp_path: Path) -> None:
    passed = read_back(write_export(tmp_path / "first", FORMATS[first][0], RECORDS), True)
    assert_arrays(passed, RECORDS, ALL)
    export, arrays, held = FORMATS[last]
    assert_arrays(read_back(write_export(tmp_path / "last", export, passed), held), RECORDS, arrays)


@pytest.mark.parametrize(
    "last", ["tsv6", "openvqa", "butd-vqa", "imagecaptioning", "lmdb-volta", "tsv", "parquet", "mmf"]
)
@pytest.mark.parametrize("first", ["tsv6", "openvqa", "butd-vqa", "imagecaptioning", "imagecaptioning-files"])
def test_boxes_and_features_pass_through_any_two_formats(first: str, last: str, tmp_path: Path) -> None:
    passed = read_back(write_export(tmp_path / "first", FORMATS[first][0], RECORDS), FORMATS[first][2])
    export, _, held = FORMATS[last]
    assert_arrays(read_back(write_export(tmp_path / "last", export, passed), held), RECORDS, SHORT)


def test_uniter_gives_back_half_precision_in_the_order_of_confidence(tmp_path: Path) -> None:
    folder = write_export(tmp_path / "uniter", UniterExport(), RECORDS)
    found = import_all(folder, sizes=SIZES)
    for img_id, record in zip(IDS, RECORDS, strict=True):
        order = np.argsort(-record.objects_conf, kind="stable")
        np.testing.assert_array_equal(found[img_id].features, record.features[order].astype("<f2").astype("<f4"))
        np.testing.assert_array_equal(found[img_id].cls_prob, record.cls_prob[order].astype("<f2").astype("<f4"))
        np.testing.assert_allclose(found[img_id].boxes, record.boxes[order], atol=640 / 2048)
        assert found[img_id].lacks("attrs") and (found[img_id].img_h, found[img_id].img_w) == (480, 640)


def test_ids_that_are_numbers_get_a_prefix_or_stay(tmp_path: Path) -> None:
    folder = write_export(tmp_path / "tsv6", Tsv6Export(), RECORDS)
    assert list(import_all(folder)) == ["391895", "42", "7"]
    prefixed = import_all(folder, prefix="COCO_trainval2014_")
    assert list(prefixed) == [
        f"COCO_trainval2014_{number}" for number in ("000000391895", "000000000042", "000000000007")
    ]
    assert list(import_all(folder, prefix="x_")) == ["x_391895", "x_42", "x_7"]


OUTPUTS = "tfrecord,lmdb,tsv,tsv6,mmf,imagecaptioning,openvqa,butd-vqa,webdataset,parquet"
FOLDERS = {
    "tfrecord": "tfrecord",
    "lmdb": "resnet101_faster_rcnn_genome_imgfeats/volta",
    "tsv": "resnet101_faster_rcnn_genome_imgfeats/*.tsv",
    "tsv6": "tsv6",
    "mmf": "mmf",
    "imagecaptioning": "imagecaptioning",
    "openvqa": "openvqa",
    "butd-vqa": "butd-vqa",
    "webdataset": "webdataset",
    "parquet": "parquet",
}


@pytest.fixture(scope="module")
def real_output(real_tsv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Import the real rows, and write them in every format that needs no probabilities, which they have not."""
    out = tmp_path_factory.mktemp("real") / "out"
    assert main(["--import", str(real_tsv), "--output", str(out), "--outputs", OUTPUTS]) == 0
    return out


@pytest.fixture(scope="module")
def real_records(real_tsv: Path) -> dict[str, RegionRecord]:
    return import_all(real_tsv)


@pytest.mark.parametrize("name", FOLDERS)
def test_real_records_go_out_in_every_format_and_back(
    name: str, real_output: Path, real_records: dict[str, RegionRecord]
) -> None:
    sizes = {img_id: (record.img_h, record.img_w) for img_id, record in real_records.items()}
    names = [ImageCaptions(img_id, int(img_id[-12:]), "train", (), ()) for img_id in real_records]
    found = import_all(real_output / FOLDERS[name], sizes=sizes, names=names)
    assert found.keys() == real_records.keys()
    for img_id, record in real_records.items():
        back = found[img_id]
        assert (back.img_h, back.img_w) == sizes[img_id]
        for array in (*SHORT, *(("objects_id", "objects_conf") if name in ("tfrecord", "lmdb", "tsv") else ())):
            assert getattr(back, array).tobytes() == getattr(record, array).tobytes(), array


def test_real_records_with_probabilities_go_through_m2_and_uniter(
    real_records: dict[str, RegionRecord], tmp_path: Path
) -> None:
    """The rows have no probabilities: each class that they name gets its confidence, and the background the rest."""
    whole = []
    for record in real_records.values():
        probabilities = np.zeros((record.num_boxes, 1601), np.float32)
        probabilities[np.arange(record.num_boxes), record.objects_id + 1] = record.objects_conf
        probabilities[:, 0] = 1 - record.objects_conf
        whole.append(replace(record, cls_prob=probabilities))
    whole.sort(key=lambda record: str(int(record.img_id[-12:])))
    sizes = {record.img_id: (record.img_h, record.img_w) for record in whole}
    names = [ImageCaptions(record.img_id, int(record.img_id[-12:]), "train", (), ()) for record in whole]
    m2 = import_all(write_export(tmp_path / "m2", M2Export(), whole, "train2014"), sizes=sizes, names=names)
    uniter = import_all(write_export(tmp_path / "uniter", UniterExport(), whole, "train2014"), sizes=sizes)
    for record in whole:
        for array in (*SHORT, *CLASSES):
            assert getattr(m2[record.img_id], array).tobytes() == getattr(record, array).tobytes(), array
        order = np.argsort(-record.objects_conf, kind="stable")
        half = record.features[order].astype("<f2").astype("<f4")
        assert uniter[record.img_id].features.tobytes() == half.tobytes()
        assert uniter[record.img_id].objects_id.tolist() == record.objects_id[order].tolist()


def test_compare_reads_what_import_reads(real_output: Path, real_tsv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in FOLDERS:
        path = str(real_output / FOLDERS[name])
        assert compare_main([str(real_tsv), path, "--json", "-"]) == 0, name
        report = json.loads(capsys.readouterr().out)
        assert report["verdict"]["text"].startswith("same network") and report["B"]["images"] == 10
        assert report["measures"]["images_of_other_size"] == 0
