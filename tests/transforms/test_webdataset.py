"""WebDatasets built from shards, read by the package of that name."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy
import webdataset

from region_features.exports.webdataset import WebDatasetExport
from region_features.formats.webdataset import encode_sample, find_members, refuse_key, write_tar
from tests.conftest import tree_bytes
from tests.samples.exports import build, export_job, is_current
from tests.samples.records import make_example, make_record, write_shard
from transforms.exports import ExportJob

IDS = ["COCO_val2014_000000000042", "IMG.2020.01_7", "100%_8", "Größe_9", "a.b"]


@pytest.fixture
def job(tmp_path: Path) -> ExportJob:
    records = [make_record(img_id, boxes=number) for number, img_id in enumerate(IDS)]
    shards = (write_shard(tmp_path / "a", records[:3]), write_shard(tmp_path / "b", records[3:]))
    return export_job(WebDatasetExport(), tmp_path / "out", {"photos": shards})


def read(job: ExportJob) -> list[dict[str, Any]]:
    tars = sorted(str(path) for path in Path(job.folder, "photos").iterdir())
    return list(webdataset.WebDataset(tars, shardshuffle=False))


def test_the_package_reads_every_image_with_all_it_has(job: ExportJob) -> None:
    row = build(job)
    assert sorted(path.name for path in Path(job.folder, "photos").iterdir()) == ["000000.tar", "000001.tar"]
    assert (row["records"], row["tars"]) == (5, 2)
    samples = read(job)
    keys = ["COCO_val2014_000000000042", "IMG%2E2020%2E01_7", "100%25_8", "Größe_9", "a%2Eb"]
    assert [sample["__key__"] for sample in samples] == keys
    for number, (img_id, sample) in enumerate(zip(IDS, samples, strict=True)):
        record = make_record(img_id, boxes=number)
        assert json.loads(sample["json"]) == {
            "img_id": img_id,
            "filename": f"{img_id}.jpg",
            "height": 480,
            "width": 640,
            "num_boxes": number,
            "captions": ["Ein Hund läuft. ", "a dog"],
            "caption_ids": [770337, 770338],
            "split": "val",
            "sha256": "ab" * 32,
        }
        arrays = safetensors.numpy.load(sample["safetensors"])
        assert len(arrays) == 8
        for name, array in arrays.items():
            expected = getattr(record, name)
            assert (array.dtype, array.shape, array.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())


def test_an_image_without_captions_has_empty_lists() -> None:
    described = json.loads(encode_sample(make_example(make_record("a"), ()))["a.json"])
    assert (described["captions"], described["caption_ids"], described["split"]) == ([], [], "")


def test_a_tar_is_what_tarfile_writes() -> None:
    samples = [encode_sample(make_example(make_record(img_id, width=99))) for img_id in ("a", "b", "Größe")]
    ours, theirs = io.BytesIO(), io.BytesIO()
    write_tar(ours, samples)
    with tarfile.open(fileobj=theirs, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            for name, data in sample.items():
                header = tarfile.TarInfo(name)
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
    assert ours.getvalue() == theirs.getvalue()


def test_the_same_shards_give_the_same_bytes(job: ExportJob, tmp_path: Path) -> None:
    build(job)
    again = replace(job, output=str(tmp_path / "again"))
    build(again)
    assert tree_bytes(Path(job.output)) == tree_bytes(Path(again.output))
    assert is_current(job)


def test_a_name_too_long_for_a_tar_is_refused() -> None:
    assert refuse_key("a" * 88) is None
    assert refuse_key("a" * 89) == "an id of more than 88 bytes, where a dot counts three"
    assert refuse_key("ü" * 45) and refuse_key("." * 30)


@pytest.mark.parametrize("cut", [700, 5000])
def test_a_tar_that_was_cut_off_is_named(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "000000.tar"
    with path.open("wb") as stream:
        write_tar(stream, [encode_sample(make_example(make_record("a", width=900)))])
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=rf"^{path}: expected a whole tar, got: "):
        list(find_members(path.open("rb"), str(path)))
