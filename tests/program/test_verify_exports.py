"""TSVs, hard negatives and LMDBs of every form damaged in turn: it is named, and the exit status is 1."""

from __future__ import annotations

import io
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_pipeline.pipeline import main as run_pipeline
from region_features.formats.hard_negatives import encode_npz, encode_pickle
from region_features.lmdb_store.value_codecs import VALUE_CODECS
from tests.conftest import TINY_WEIGHTS
from tests.samples.damage import (
    FIRST,
    LMDB,
    SHARD,
    edit_json,
    edit_lmdb,
    reseal,
    rewrite,
    verified,
)
from tests.samples.fakes import FakeHandler, fake_prepare

TSV = Path("resnet101_faster_rcnn_genome_imgfeats") / "train_obj36-36.tsv"
NPZ, PICKLE = "hard_negative.npz", "hard_negative.pkl"


@pytest.fixture(name="derived", scope="module")
def derived_once() -> dict[str, Path]:
    """The output with TSVs and hard negatives that the first test here made."""
    return {}


@pytest.fixture(name="full")
def copied_full_output(corpus: Path, tmp_path: Path, derived: dict[str, Path]) -> Path:
    if not derived:
        flags = ["--corpus", corpus, "--weights", TINY_WEIGHTS, "--output", tmp_path / "made", "--num_shards", 2]
        more = ["--outputs", "tfrecord,captions,lmdb,tsv,negatives", "--negatives_pool", 4]
        assert run_pipeline([str(flag) for flag in [*flags, *more]], FakeHandler(), fake_prepare) == 0
        derived["out"] = tmp_path / "made"
    shutil.copytree(derived["out"], tmp_path / "full")
    return tmp_path / "full"


def rows_of(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], None]:
    """Changes the rows of a TSV, and lets its note and the manifest tell the new size and number."""

    def damage(out: Path) -> None:
        rows = change((out / TSV).read_bytes().splitlines(keepends=True))
        (out / TSV).write_bytes(b"".join(rows))
        size = (out / TSV).stat().st_size
        edit_json(f"{TSV}.source.json", lambda note: note.update(files={TSV.name: size}, counts={"rows": len(rows)}))(
            out
        )
        reseal(out)

    return damage


def cell_of_first(column: int, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def changed(rows: list[bytes]) -> list[bytes]:
        cells = rows[0].split(b"\t")
        cells[column] = change(cells[column])
        return [b"\t".join(cells), *rows[1:]]

    return rows_of(changed)


def replace_file(out: Path, name: str, data: bytes) -> None:
    """Replaces a file of the hard negatives, with a note and a manifest that agree on the new size."""
    (out / name).write_bytes(data)
    edit_json("hard_negative.source.json", lambda note: note["files"].update({name: len(data)}))(out)
    reseal(out)


def pool_of(change: Callable[[Any, Any], tuple[Any, Any]]) -> Callable[[Path], None]:
    """Changes the hard negatives, both files alike, and lets the manifest tell the new sizes."""

    def damage(out: Path) -> None:
        arrays = np.load(out / NPZ)
        pool, ids = change(arrays["train_hard_pool"].copy(), arrays["train_image_list"].copy())
        for name, data in ((NPZ, encode_npz(pool, ids)), (PICKLE, encode_pickle(pool, ids))):
            replace_file(out, name, data)

    return damage


def with_pool(place: tuple[int, int], value: int) -> Callable[[Path], None]:
    def change(pool: Any, ids: Any) -> tuple[Any, Any]:
        pool[place] = value
        return pool, ids

    return pool_of(change)


def with_id(row: int, value: int) -> Callable[[Path], None]:
    def change(pool: Any, ids: Any) -> tuple[Any, Any]:
        ids[row] = value
        return pool, ids

    return pool_of(change)


def other_pickle(out: Path) -> None:
    content = pickle.loads((out / PICKLE).read_bytes())
    content["train_image_list"][0] += 1
    replace_file(out, PICKLE, pickle.dumps(content))


def pickled_npz(out: Path) -> None:
    stream = io.BytesIO()
    np.savez(stream, train_hard_pool=np.array([{}]), train_image_list=np.zeros(1, np.int64))
    replace_file(out, NPZ, stream.getvalue())


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "row lost": (rows_of(lambda rows: rows[1:]), rf"tsv: .*{TSV.name}: expected a row for {FIRST} of {SHARD.name}"),
    "row twice": (rows_of(lambda rows: [*rows, rows[0]]), rf"tsv: .*{TSV.name}, line 8: image {FIRST} comes a second"),
    "strange row": (
        rows_of(lambda rows: [*rows, rows[0].replace(FIRST.encode(), b"x_77")]),
        rf"tsv: .*{TSV.name}: 1 rows are of no image in the shards, x_77 for one",
    ),
    "torn row": (rows_of(lambda rows: [*rows[:-1], rows[-1][:50]]), rf"tsv: .*{TSV.name}, line 7: expected 10 or 13"),
    "array of a row": (
        cell_of_first(9, lambda text: b"AAAA" + text[4:]),
        rf"tsv: .*{TSV.name}, line 1: not the record of {FIRST} in {SHARD.name}: features differ",
    ),
    "base64 of a row": (
        cell_of_first(9, lambda text: text[:-8]),
        rf"tsv: .*{TSV.name}, line 1, image {FIRST}, field features: expected",
    ),
    "number of a row": (cell_of_first(1, lambda _: b"7"), r"tsv: .*line 1: not the record of .*: img_h differ"),
    "rows counted": (
        edit_json(f"{TSV}.source.json", lambda note: note.update(counts={"rows": 8})),
        rf"tsv: .*{TSV.name}: expected 8 rows \(its note\), got 7",
    ),
    "size of a TSV": (
        edit_json(f"{TSV}.source.json", lambda note: note.update(files={TSV.name: 8})),
        rf"tsv: .*{TSV.name}: expected 8 bytes \(.*.source.json\), got \d+",
    ),
    "no note": (
        lambda out: (out / f"{TSV}.source.json").unlink(),
        rf"tsv: .*{TSV.name}: expected {TSV.name}.source.json beside it, which says",
    ),
    "stale TSV": (
        lambda out: rewrite(out, lambda examples: [replace(one, sha256="ef" * 32) for one in examples]),
        rf"tsv: .*{TSV.name}: stale: the shards are no longer those",
    ),
    "stale negatives": (
        lambda out: rewrite(out, lambda examples: [replace(one, sha256="ef" * 32) for one in examples]),
        "negatives: .*hard_negative.pkl: stale: the shards are no longer those",
    ),
    "index beyond": (
        with_pool((2, 1), 9),
        r"negatives: .*train_hard_pool: expected indices from 0 below 9, got 0 to 9",
    ),
    "index below": (with_pool((2, 1), -1), r"negatives: .*expected indices from 0 below 9, got -1 to 8"),
    "not itself": (
        pool_of(lambda pool, ids: (pool[:, ::-1].copy(), ids)),
        r"negatives: .*train_hard_pool: expected row 0 to begin with itself, got \d",
    ),
    "image twice in a row": (with_pool((3, 2), 3), "negatives: .*train_hard_pool: row 3 names an image twice"),
    "strange id": (with_id(0, 777), "negatives: .*train_image_list: not the ids in the shards, 777 for one"),
    "id twice": (with_id(0, 10), "negatives: .*train_image_list: an id comes twice"),
    "fewer images": (
        pool_of(lambda pool, ids: (np.minimum(pool[:8], 7), ids[:8])),
        "negatives: .*expected 9 images with captions of training, got 8",
    ),
    "shape of the pool": (
        pool_of(lambda pool, ids: (pool, ids[1:])),
        r"negatives: .*expected int64 of \(N, P\) and int64 or text of \(N,\), got int64 \(9, 4\) and int64 \(8,\)",
    ),
    "other pickle": (other_pickle, "negatives: hard_negative.pkl: expected the pickle of what hard_negative.npz holds"),
    "pickle in the npz": (pickled_npz, "negatives: hard_negative.npz: expected the arrays of hard negatives, got"),
    "torn npz": (
        lambda out: replace_file(out, NPZ, (out / NPZ).read_bytes()[:200]),
        "negatives: hard_negative.npz: expected the arrays of hard negatives, got",
    ),
    "no npz": (
        lambda out: (out / NPZ).unlink(),
        r"negatives: .*hard_negative.npz: expected \d+ bytes \(hard_negative.source.json\), got no such file",
    ),
    "no note of negatives": (
        lambda out: (out / "hard_negative.source.json").unlink(),
        "negatives: .*hard_negative.pkl: expected hard_negative.source.json beside it, which says",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(name: str, full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, message = DAMAGES[name]
    damage(full)
    status, lines = verified(full, capsys)
    assert status == 1
    assert [line for line in lines if re.match(message, line)], "\n".join(lines)


def test_a_good_output_is_good(full: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verified(full, capsys) == (
        0,
        [f"{full}: 15 records in 6 shards, compared with 2 lmdb, 3 tsv, 1 negatives: nothing wrong"],
    )
    rows_of(lambda rows: [row.replace(b"\n", b"\r\n") for row in rows])(full)
    assert verified(full, capsys)[0] == 0
    (full / TSV).unlink()
    flags = ["--corpus", str(corpus), "--output", str(full), "--outputs", "tsv", "--tsv_columns", "10"]
    assert run_pipeline(flags) == 0
    assert verified(full, capsys)[0] == 0
    cell_of_first(9, lambda text: b"AAAA" + text[4:])(full)
    status, lines = verified(full, capsys)
    assert status == 1 and "features differ" in lines[0]


@pytest.mark.parametrize("form", VALUE_CODECS)
def test_an_lmdb_of_every_form_is_compared(
    form: str, full: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_pipeline(["--corpus", str(corpus), "--output", str(full), "--outputs", "lmdb", "--lmdb_form", form]) == 0
    status, lines = verified(full, capsys)
    assert status == 0 and "compared with 2 lmdb, 3 tsv, 1 negatives: nothing wrong" in lines[-1]
    other = edit_lmdb(lambda transaction: transaction.put(b"10", transaction.get(b"11")))
    other(full)
    status, lines = verified(full, capsys)
    assert status == 1 and f"not the record of {FIRST} in {SHARD.name}: img_id" in lines[0]
    edit_lmdb(lambda transaction: transaction.put(b"10", transaction.get(b"11")[:-9]))(full)
    status, lines = verified(full, capsys)
    assert status == 1 and re.match(rf"lmdb: .*{LMDB.name}, key b'10'.*: expected ", lines[0])
