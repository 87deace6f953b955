"""Imports from gs://, against a storage emulator: every format gives the records that its local files give."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apache_beam.internal.gcp import auth

from beam_pipeline.pipeline import main
from benchmarks.support.faulty_storage import BUCKET, emulator
from region_features.exports.base import Export
from region_features.exports.uniter import UniterExport
from region_features.records.item import CaptionedImage
from region_features.records.region_record import RegionRecord
from region_features.sources.base import Source
from tests.conftest import tree_bytes
from tests.samples.buckets import upload, upload_folder
from tests.samples.imports import import_all, write_export
from tests.samples.plans import assign_shards
from tests.samples.records import assert_same, make_record, write_shard
from tests.transforms.test_round_trips import FORMATS, IDS, NAMES, RECORDS, SIZES
from transforms import imports, local_copies
from transforms.imports import list_imports, read_imported_shard
from transforms.local_copies import copies_folder, keep_copies

EXPORTS: dict[str, Export] = {name: export for name, (export, *_) in FORMATS.items()} | {"uniter": UniterExport()}
COPIED = ("lmdb", "parquet", "mmf", "m2", "butd-vqa", "imagecaptioning", "uniter")  # starts of their names


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the records in every format, a folder each."""
    folder = tmp_path_factory.mktemp("old")
    for name, export in EXPORTS.items():
        write_export(folder / name, export, RECORDS)
    (folder / "shards").mkdir()
    write_shard(folder / "shards" / "val2014-00000-of-00001.tfrecord", RECORDS)
    return folder


@pytest.fixture(scope="module")
def remote(old: Path) -> Iterator[str]:
    """Start a storage emulator that holds the same folders."""
    with emulator() as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", address)
        patch.setattr(auth._Credentials, "_credentials_init", True)  # it would be looked for on the network
        upload_folder(old, f"gs://{BUCKET}/old")
        yield f"gs://{BUCKET}/old"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the URIs of the files that are copied to the local disk."""
    uris: list[str] = []
    copy = local_copies._copy

    def record(uri: str, *rest: Any) -> None:
        uris.append(uri)
        copy(uri, *rest)

    monkeypatch.setattr(local_copies, "_copy", record)
    return uris


@pytest.mark.parametrize("name", [*EXPORTS, "shards"])
def test_every_format_gives_the_records_of_its_local_files(
    name: str, old: Path, remote: str, copied: list[str]
) -> None:
    expected = import_all(old / name, sizes=SIZES, names=NAMES)
    with keep_copies(print):
        found = import_all(f"{remote}/{name}", sizes=SIZES, names=NAMES)
    assert list(found) == list(expected) == sorted(IDS, key=lambda img_id: str(int(img_id[-12:])))
    for img_id, record in expected.items():
        assert_same(found[img_id], record)
    assert bool(copied) == (name.startswith(COPIED) and name != "imagecaptioning-files")
    assert not os.listdir(copies_folder())


def test_globs_name_files_and_folders_and_the_sets_are_those_of_local_files(
    old: Path, remote: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "set_of_id", lambda img_id: None)  # the ids name the set; else their file does
    for pattern in (
        "tsv6*/*/*.tsv",
        "mm*/*/*.lmdb",
        "openv*/*/val*",
        "web*/*/*/*.tar",
        "**/*_detections.hdf5",
        "shards/*",
    ):
        sets = []
        for root in (remote, str(old)):
            catalog = imports.Catalog()
            list_imports([f"{root}/{pattern}"], catalog)
            sets.append({(ref.set_name, ref.img_id) for ref in catalog.refs()})
        assert sets[0] == sets[1] and len(sets[0]) == 3, pattern


def test_a_run_copies_a_file_once_and_deletes_it(
    old: Path, remote: str, tmp_path: Path, copied: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    outs = []
    for root, name in ((remote, "remote"), (str(old), "local")):
        outs.append(tmp_path / name)
        argv = ["--import", f"{root}/lmdb-volta", f"{root}/parquet", "--output", str(outs[-1]), "--outputs", "tfrecord"]
        assert main(argv) == 0
    shards = [{name: data for name, data in tree_bytes(out).items() if name.endswith(".tfrecord")} for out in outs]
    assert shards[0] == shards[1] and len(shards[0]) == 1
    assert len(copied) == len(set(copied)) == 2  # data.mdb and a table
    assert not os.listdir(copies_folder())
    assert capsys.readouterr().err.count("GB are copied to the local disk") == 2


def test_a_copy_that_does_not_fit_is_refused_before_the_work(
    remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = local_copies.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(local_copies.shutil, "disk_usage", lambda folder: usage._replace(free=99))
    assert main(["--import", f"{remote}/mmf", "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert f"--import {remote}/mmf/" in error and "GB are free in" in error and "set TMPDIR" in error
    assert error.count("\n") == 1 and not (tmp_path / "out").exists() and not os.listdir(copies_folder())


def test_a_file_that_is_replaced_after_the_listing_stops_the_run(remote: str, tmp_path: Path) -> None:
    for name, path in (("a.tsv", "tsv/val_obj.tsv"), ("a.parquet", "a.parquet")):
        uri = f"gs://{BUCKET}/{path}"
        export = EXPORTS["tsv" if name == "a.tsv" else "parquet"]
        sources = [
            next(write_export(tmp_path / f"{name}-{number}", export, [make_record(f"x_{number}", 36)]).rglob(pattern))
            for number, pattern in ((1, f"*{name[1:]}"), (2, f"*{name[1:]}"))
        ]
        upload(sources[0], uri)
        catalog = imports.Catalog()
        list_imports([uri], catalog)
        (ref,) = catalog.refs()
        ((shard, _),) = assign_shards((ref,), 1).items()
        opened: dict[str, Source] = {}
        ((_, record),) = read_imported_shard(shard, [CaptionedImage(ref, None)], opened)
        assert isinstance(record, RegionRecord) and record.img_id == ref.img_id
        upload(sources[1], uri)
        for sources_of_worker in (opened, {}):
            with pytest.raises(OSError, match="another or none: it was replaced during the run; put it back"):
                list(read_imported_shard(shard, [CaptionedImage(ref, None)], sources_of_worker))


@pytest.mark.parametrize("path", ["none.tsv", "none/*.lmdb", "none"])
def test_nothing_there_is_wrong_use(path: str, remote: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--import", f"{remote}/{path}", "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert f"{path}: expected files of features, found none; check the path" in error and error.count("\n") == 1


def test_damage_is_named_by_its_place_in_the_bucket(remote: str, tmp_path: Path) -> None:
    uri = f"gs://{BUCKET}/damaged/a.hdf5"
    (tmp_path / "a").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    upload(tmp_path / "a", uri)
    with pytest.raises(ValueError, match=rf"^--import {uri}: expected an HDF5 file, got: "):
        list_imports([uri], imports.Catalog())
