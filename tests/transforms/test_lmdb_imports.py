"""LMDBs of other programs in place of images: every form, hostile and damaged values, strange keys."""

from __future__ import annotations

import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lmdb
import pytest

from beam_pipeline.pipeline import main
from region_features.formats.volta import encode_volta, record_to_strings
from region_features.lmdb_store.value_codecs import VALUE_CODECS
from region_features.records.failure import ImageFailure
from region_features.sources.base import Source
from tests.samples.imports import list_files
from tests.samples.lmdbs import write_lmdb
from tests.samples.records import assert_same, make_record
from transforms.imports import read_imported_record

TRAIN = "COCO_train2014_000000000009"
STRANGE = {
    b"\xff\xfe": encode_volta(make_record("x_1")),
    b"\1\0\0\0": encode_volta(make_record("x_1")),
    b"50": b"",
    b"51": bytes(3),
    b"52": b'{"img_id": "x_52"}',
    b"53": pickle.dumps([1, 2]),
    b"54": pickle.dumps({"img_id": 54}),
    b"55": pickle.dumps({b"img_id": b"x_55"}),
    b"56": pickle.dumps({"img_id": "\ud800"}),
}


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("executed",)


def test_hostile_and_misplaced_values_are_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "old_feat.lmdb"
    good = {b"9": encode_volta(make_record(TRAIN)), b"7": encode_volta(make_record("x_7"))}
    write_lmdb(folder, {**good, b"8": pickle.dumps(Evil()), b"5": encode_volta(make_record("x_6"))})
    listing, refs = list_files(folder)
    assert sorted((ref.set_name, ref.img_id) for ref in refs) == [("old", "x_7"), ("train2014", TRAIN)]
    reasons = {failure.uri: failure.reason for failure in listing.failures}
    assert "print" in reasons[f"{folder}#key=8"]
    assert "expected the key b'6'" in reasons[f"{folder}#key=5"]
    opened: dict[str, Source] = {}
    for ref in refs:
        assert_same(read_imported_record(ref, opened), make_record(ref.img_id))
    with pytest.raises(ImageFailure, match="the key is gone"):
        read_imported_record(refs[0]._replace(uri=f"{folder}#key=77"), opened)
    with pytest.raises(ImageFailure, match="asks for"):
        read_imported_record(refs[0]._replace(uri=f"{folder}#key=8"), opened)
    with pytest.raises(ImageFailure, match="expected the record of x_7, got that of COCO_train2014_000000000009"):
        read_imported_record(refs[0]._replace(uri=f"{folder}#key=9"), opened)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("img_id", ["a#key=b", "a/b", "a\nb", "ä 😀", "#key="])
def test_a_key_may_hold_any_text(img_id: str, tmp_path: Path) -> None:
    folder = tmp_path / "old_feat.lmdb"
    write_lmdb(folder, {img_id.encode(): encode_volta(make_record(img_id))})
    _, (ref,) = list_files(folder)
    assert_same(read_imported_record(ref, {}), make_record(img_id))
    marked = tmp_path / "a#key=b"
    write_lmdb(marked, {b"7": encode_volta(make_record("x_7"))})
    with pytest.raises(ValueError, match="expected a path without `#` and the name of a place, as #key=; rename it"):
        list_files(marked)


def test_strange_keys_and_values_are_failures_and_their_neighbours_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "old_feat.lmdb", tmp_path / "out"
    good = {str(number).encode(): encode_volta(make_record(f"x_{number}")) for number in (1, 2)}
    write_lmdb(folder, {**good, **STRANGE})
    with lmdb.open(str(folder), max_dbs=1) as env:
        env.open_db(b"table")
    flags = ["--import_lmdb", str(folder), "--output", str(out), "--outputs", "tfrecord,lmdb,tsv"]
    assert main(flags) == 1
    assert f"{len(STRANGE) + 1} of {len(STRANGE) + 3} images failed" in capsys.readouterr().err
    assert main([*flags, "--failure_threshold", "0.9"]) == 0
    failures = [json.loads(line) for line in (out / "failures.jsonl").open()]
    assert len(failures) == len(STRANGE) + 1 and {failure["stage"] for failure in failures} == {"import"}
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    assert counts == {"in": 2, "written": 2, "failed": 0, "computed": 0, "reused": 2}


@pytest.mark.parametrize("form", VALUE_CODECS)
def test_lmdbs_of_every_form_are_imported(form: str, tmp_path: Path) -> None:
    codec = VALUE_CODECS[form]
    records = [make_record(img_id) for img_id in ("x_1", "x_2")]
    folder = tmp_path / "old_feat.lmdb"
    write_lmdb(folder, {record.img_id[2:].encode(): codec.encode(record) for record in records}, form)
    _, refs = list_files(folder)
    assert [(ref.set_name, ref.img_id) for ref in refs] == [("old", "x_1"), ("old", "x_2")]
    for ref, record in zip(refs, records, strict=True):
        assert_same(read_imported_record(ref, {}), codec.kept(record))


def test_threads_of_a_process_read_one_lmdb(tmp_path: Path) -> None:
    # The threads of a worker do so, and lmdb opens a file only once in a process.
    ids = [f"x_{number}" for number in range(1, 41)]
    write_lmdb(tmp_path, {img_id[2:].encode(): encode_volta(make_record(img_id)) for img_id in ids})
    _, refs = list_files(tmp_path)
    together = threading.Barrier(4)

    def read(_: int) -> list[str]:
        opened: dict[str, Source] = {}
        together.wait(60)
        return [read_imported_record(ref, opened).img_id for ref in refs]

    with ThreadPoolExecutor(4) as pool:
        ids_read = list(pool.map(read, range(4)))
    assert ids_read == [sorted(ids)] * 4


def test_an_lmdb_of_an_unknown_form_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lmdb(tmp_path, {b"7": encode_volta(make_record("x_7"))}, "later")
    assert main(["--import_lmdb", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "expected a form of volta, " in error and "got 'later'" in error and len(error.splitlines()) == 1


def test_a_value_that_is_damaged_behind_its_id_fails_when_it_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "old_feat.lmdb"
    cut = encode_volta(make_record("x_7", 36, 512))[:-5]
    id_last = dict(reversed(record_to_strings(make_record("x_8")).items()))
    write_lmdb(folder, {b"7": cut, b"8": pickle.dumps(id_last)})
    listing, refs = list_files(folder)
    assert sorted(ref.img_id for ref in refs) == ["x_7", "x_8"] and not listing.failures
    by_id = {ref.img_id: ref for ref in refs}
    with pytest.raises(ImageFailure, match="key=7: expected a pickled dict"):
        read_imported_record(by_id["x_7"], {})
    assert_same(read_imported_record(by_id["x_8"], {}), make_record("x_8"))


def test_an_lmdb_that_is_unreadable_or_cut_is_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = tmp_path / "old"
    with lmdb.open(str(old)) as env, env.begin(write=True) as txn:
        txn.put(b"7", b"no pickle")
    flags = ["--import_lmdb", str(old), "--output", str(tmp_path / "out")]
    assert main(flags) == 2
    assert "old: expected records of images, found none; the first of 1 unusable ones:" in capsys.readouterr().err
    (old / "data.mdb").write_bytes((old / "data.mdb").read_bytes()[:5000])
    assert main(flags) == 2
    assert "expected data.mdb of 12288 bytes, got 5000; copy it or build it again" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
