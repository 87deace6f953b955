"""The formats of other training programs: built, compared, damaged in turn, and deleted by name."""

from __future__ import annotations

import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import lmdb
import pytest

from beam_pipeline.pipeline import main as run_pipeline
from tests.conftest import TINY_WEIGHTS, tree_bytes
from tests.samples.damage import FIRST, SHARD, edit_json, reseal, verified
from tests.samples.fakes import FakeHandler, fake_prepare

OUTPUTS = "tsv6,m2,mmf,imagecaptioning,uniter"
M2 = Path("m2") / "coco_detections.hdf5"
MMF = Path("mmf") / "trainval.lmdb" / "data.mdb"
CAPTIONING = Path("imagecaptioning") / "cocobu_fc.lmdb"
UNITER = Path("uniter") / "train2014" / "feat_numbb36" / "data.mdb"
UNITER_KEY = b"coco_train2014_000000000010.npz"
TSV6 = Path("tsv6") / "trainval_resnet101_faster_rcnn_genome_36.tsv"


@pytest.fixture(name="derived", scope="module")
def derived_once() -> dict[str, Path]:
    """The output with every format that the first test here made."""
    return {}


@pytest.fixture(name="full")
def copied_full_output(corpus: Path, tmp_path: Path, derived: dict[str, Path]) -> Path:
    if not derived:
        flags = ["--images", *(corpus / "images").iterdir(), "--weights", TINY_WEIGHTS, "--output", tmp_path / "made"]
        more = ["--num_shards", 2, "--outputs", f"tfrecord,{OUTPUTS}"]
        assert run_pipeline([str(flag) for flag in [*flags, *more]], FakeHandler(), fake_prepare) == 0
        derived["out"] = tmp_path / "made"
    shutil.copytree(derived["out"], tmp_path / "full")
    return tmp_path / "full"


def changed_file(path: Path, note: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Changes a file of an export, with a note and a manifest that agree on its new size."""

    def damage(out: Path) -> None:
        data = change((out / path).read_bytes())
        (out / path).write_bytes(data)
        edit_json(str(path.parent / note), lambda content: content["files"].update({path.name: len(data)}))(out)
        reseal(out)

    return damage


def tsv6_rows(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], None]:
    def changed(data: bytes) -> bytes:
        return b"".join(change(data.splitlines(keepends=True)))

    return changed_file(TSV6, f"{TSV6.name}.source.json", changed)


def other_features(rows: list[bytes]) -> list[bytes]:
    cells = rows[0].split(b"\t")
    cells[5] = b"AAAA" + cells[5][4:]
    return [b"\t".join(cells), *rows[1:]]


def other_m2_features(out: Path) -> None:
    with h5py.File(out / M2, "r+") as file:
        file["10_features"][0, 0] += 1
    reseal(out)


def lmdb_records(path: Path, note: Path, change: Callable[[Any], object]) -> Callable[[Path], None]:
    """Changes an LMDB, with a note and a manifest that agree on its new size."""

    def damage(out: Path) -> None:
        with (
            lmdb.open(str(out / path), subdir=False, map_size=1 << 26, lock=False) as env,
            env.begin(write=True) as transaction,
        ):
            change(transaction)
        name, size = str(path.relative_to(note.parent)), (out / path).stat().st_size
        edit_json(str(note), lambda content: content["files"].update({name: size}))(out)
        reseal(out)

    return damage


def mmf_records(change: Callable[[Any], object]) -> Callable[[Path], None]:
    return lmdb_records(MMF, MMF.parent / "source.json", change)


def mmf_pickle_that_runs(transaction: Any) -> None:
    class Strange:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (print, ("must not run",))

    transaction.put(b"10", pickle.dumps(Strange()))


def captioning_records(change: Callable[[Any], object]) -> Callable[[Path], None]:
    return lmdb_records(CAPTIONING, CAPTIONING.parent / "cocobu.source.json", change)


def uniter_records(change: Callable[[Any], object]) -> Callable[[Path], None]:
    return lmdb_records(UNITER, UNITER.parents[1] / "feat_numbb36.source.json", change)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "tsv6: row lost": (
        tsv6_rows(lambda rows: rows[1:]),
        rf"tsv6: .*{TSV6.name}: expected a row for {FIRST} of {SHARD.name}, found none",
    ),
    "tsv6: strange row": (
        tsv6_rows(lambda rows: [*rows, rows[0].replace(b"10\t", b"77\t", 1)]),
        rf"tsv6: .*{TSV6.name}: 1 rows are of no image in the shards, 77 for one",
    ),
    "tsv6: torn row": (
        tsv6_rows(lambda rows: [*rows[:-1], rows[-1][:9]]),
        rf"tsv6: .*{TSV6.name}, line 12: expected 6 columns, got \d",
    ),
    "tsv6: another array": (
        tsv6_rows(other_features),
        rf"tsv6: .*{TSV6.name}, line 1: not the record of {FIRST} in {SHARD.name}: features differ",
    ),
    "m2: torn": (
        changed_file(M2, f"{M2.name}.source.json", lambda data: data[:-99]),
        rf"m2: .*{M2.name}: expected an HDF5 file, got: ",
    ),
    "m2: another array": (
        other_m2_features,
        rf"m2: .*{M2.name}: not the record of {FIRST} in {SHARD.name}: 10_features differ",
    ),
    "mmf: key lost": (
        mmf_records(lambda transaction: transaction.delete(b"10")),
        rf"mmf: .*trainval.lmdb: expected key '10' for {FIRST} of {SHARD.name}, found none",
    ),
    "mmf: key list": (
        mmf_records(lambda transaction: transaction.put(b"keys", pickle.dumps([b"10"]))),
        r"mmf: .*trainval.lmdb: its record 'keys' is not what the other keys give",
    ),
    "mmf: strange key": (
        mmf_records(lambda transaction: transaction.put(b"777", transaction.get(b"10"))),
        r"mmf: .*trainval.lmdb: 1 keys are of no image in the shards, '777' for one",
    ),
    "mmf: another image": (
        mmf_records(lambda transaction: transaction.put(b"10", transaction.get(b"11"))),
        rf"mmf: .*key '10': not the record of {FIRST} in {SHARD.name}: feature_path, features",
    ),
    "mmf: a pickle that runs": (mmf_records(mmf_pickle_that_runs), "mmf: .*key '10': expected a pickled dict of"),
    "imagecaptioning: another image": (
        captioning_records(lambda transaction: transaction.put(b"10", transaction.get(b"11"))),
        rf"imagecaptioning: .*cocobu_fc.lmdb, key '10': not the record of {FIRST} in {SHARD.name}: array differ",
    ),
    "imagecaptioning: torn": (
        captioning_records(lambda transaction: transaction.put(b"10", transaction.get(b"10")[:-4])),
        "imagecaptioning: .*cocobu_fc.lmdb, key '10': expected the bytes of an npz or npy file, got",
    ),
    "imagecaptioning: keys": (
        captioning_records(lambda transaction: transaction.delete(b"__keys__")),
        "imagecaptioning: .*cocobu_fc.lmdb: its record '__keys__' is not what the other keys give",
    ),
    "uniter: another image": (
        uniter_records(lambda writing: writing.put(UNITER_KEY, writing.get(UNITER_KEY.replace(b"10", b"11")))),
        rf"uniter: .*{UNITER_KEY.decode()}': not the record of {FIRST} in {SHARD.name}: norm_bb, features, conf",
    ),
    "uniter: torn": (
        uniter_records(lambda writing: writing.put(UNITER_KEY, writing.get(UNITER_KEY)[:-4])),
        "uniter: .*feat_numbb36, key '.*': expected a msgpack map of float16 arrays, got",
    ),
    "tsv6: a stray": (
        lambda out: (out / "tsv6" / "more.tsv").write_text("x"),
        "stray: .*tsv6/more.tsv: manifest.json does not list it",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(name: str, full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, message = DAMAGES[name]
    damage(full)
    status, lines = verified(full, capsys)
    assert status == 1
    assert [line for line in lines if re.match(message, line)], "\n".join(lines)


def test_a_good_output_is_good(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = verified(full, capsys)
    counts = {name: 3 if name == "uniter" else 2 for name in OUTPUTS.split(",")}
    compared = ", ".join(f"{count} {name}" for name, count in counts.items())
    assert (status, lines) == (0, [f"{full}: 15 records in 6 shards, compared with {compared}: nothing wrong"])
    (full / UNITER.parent / "lock.mdb").touch()  # as UNITER's own reader leaves it
    assert verified(full, capsys)[0] == 0


def test_rows_that_windows_ended_are_good(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tsv6_rows(lambda rows: [row.replace(b"\n", b"\r\n") for row in rows])(full)
    assert verified(full, capsys)[0] == 0


def test_the_same_shards_give_the_same_bytes(full: Path) -> None:
    names = OUTPUTS.split(",")
    before = {name: tree_bytes(full / name) for name in names}
    for name in names:
        shutil.rmtree(full / name)
    assert run_pipeline(["--output", str(full), "--outputs", OUTPUTS]) == 0
    assert {name: tree_bytes(full / name) for name in names} == before


def test_overwrite_deletes_every_format(full: Path, corpus: Path) -> None:
    photos = corpus / "images" / "test2015"
    flags = ["--images", photos, "--weights", TINY_WEIGHTS, "--output", full, "--outputs", "tfrecord", "--overwrite"]
    assert run_pipeline([str(flag) for flag in flags], FakeHandler(), fake_prepare) == 0
    left = [name for name in tree_bytes(full) if not name.startswith("tfrecord/")]
    assert left == ["failures.jsonl", "manifest.json", "manifest.json.sha256", "plan.jsonl"]
