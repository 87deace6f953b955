"""Outputs that are folders of files, file to file: verified, damaged in turn, deleted by `--overwrite`, on gs://."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipeline.pipeline import main
from region_features.formats.webdataset import find_members
from tests.conftest import TINY_WEIGHTS, tree_bytes, write_photo
from tests.samples.buckets import download, upload
from tests.samples.damage import FIRST, SHARD, reseal, rewrite, verified
from tests.samples.fakes import FakeHandler, fake_prepare
from transforms import files

OUTPUTS = "webdataset,parquet,openvqa"
TAR = Path("webdataset") / "train2014" / "000000.tar"
TABLE = Path("parquet") / "train2014" / "train2014-00000-of-00002.parquet"
NPZ = Path("openvqa") / "train2014" / f"{FIRST}.jpg.npz"


def run(*flags: object) -> int:
    return main([*map(str, flags), "--weights", str(TINY_WEIGHTS)], FakeHandler(), fake_prepare)


@pytest.fixture(name="made", scope="module")
def made_once() -> dict[str, Path]:
    """Keep the output that the module's first test makes; each test gets a copy."""
    return {}


@pytest.fixture(name="out")
def copied_output(corpus: Path, tmp_path: Path, made: dict[str, Path]) -> Path:
    if not made:
        outputs = f"tfrecord,captions,{OUTPUTS}"
        assert run("--corpus", corpus, "--output", tmp_path / "made", "--num_shards", 2, "--outputs", outputs) == 0
        made["out"] = tmp_path / "made"
    shutil.copytree(made["out"], tmp_path / "out")
    return tmp_path / "out"


def relist(out: Path, path: Path) -> None:
    """Make list, note and manifest agree on the files of a folder as they are now."""
    folder, name = out / path.parent, path.parent.name
    digests = {file.name: files.sha256_of(str(file)) for file in sorted(folder.iterdir())}
    listing = folder.with_name(f"{name}.sha256")
    listing.write_text("".join(f"{sha256}  {name}/{file}\n" for file, sha256 in digests.items()))
    note = folder.with_name(f"{name}.source.json")
    content = json.loads(note.read_text())
    size = sum(file.stat().st_size for file in folder.iterdir())
    content["files"] = {f"{name}/": size, listing.name: listing.stat().st_size}
    note.write_text(json.dumps(content))
    reseal(out)


def edit_file(path: Path, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Change a file of a folder, with list, note and manifest that agree on the new one."""

    def damage(out: Path) -> None:
        (out / path).write_bytes(change((out / path).read_bytes()))
        relist(out, path)

    return damage


def copy_file(path: Path, source: Path) -> Callable[[Path], None]:
    def damage(out: Path) -> None:
        shutil.copy(out / source, out / path)
        relist(out, path)

    return damage


def without_first_sample(out: Path) -> None:
    with (out / TAR).open("rb") as stream:
        data = stream.read()
    ends = [member.offset + member.size for member in find_members(str(out / TAR))]
    (out / TAR).write_bytes(data[-(-ends[1] // 512) * 512 :])
    relist(out, TAR)


def change_array(out: Path) -> None:
    data = bytearray((out / TAR).read_bytes())
    arrays = next(member for member in find_members(str(out / TAR)) if member.name == f"{FIRST}.safetensors")
    data[arrays.offset + arrays.size - 1] ^= 1  # of the last array
    (out / TAR).write_bytes(data)
    relist(out, TAR)


def edit_table(change: Callable[[list[dict[str, Any]]], object]) -> Callable[[Path], None]:
    """Change the rows of a table, with list, note and manifest that agree on the new one."""

    def damage(out: Path) -> None:
        table = pq.read_table(out / TABLE)
        rows = table.to_pylist()
        change(rows)
        schema = pa.schema([field for field in table.schema if field.name in rows[0]])
        pq.write_table(pa.Table.from_pylist(rows, schema), out / TABLE)
        relist(out, TABLE)

    return damage


def edit_npz(**changes: Any) -> Callable[[Path], None]:
    """Change arrays of a file, with list, note and manifest that agree on the new one."""

    def damage(out: Path) -> None:
        arrays = dict(np.load(out / NPZ))
        np.savez(out / NPZ, **{**arrays, **changes})
        relist(out, NPZ)

    return damage


def remove_file(out: Path, path: Path) -> None:
    (out / path).unlink()
    relist(out, path)


def flip(path: Path) -> Callable[[Path], None]:
    def damage(out: Path) -> None:
        data = bytearray((out / path).read_bytes())
        data[len(data) // 2] ^= 1
        (out / path).write_bytes(data)

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte": (flip(TAR), rf"listing: .*{TAR}: expected the SHA-256 that .*train2014.sha256 lists, got another"),
    "a file lost": (
        lambda out: (out / TAR).unlink(),
        rf"listing: .*{TAR}: listed in .*train2014.sha256, and not there",
    ),
    "a file lost, compared": (
        lambda out: (out / TAR).unlink(),
        r"webdataset: .*train2014/: expected \d+ bytes \(train2014.source.json\), got not all of its files",
    ),
    "a stray file": (
        lambda out: (out / TAR.parent / "mine.txt").write_text("mine"),
        r"stray: .*train2014/mine.txt: .*train2014.sha256 does not list it; delete it",
    ),
    "a stray folder": (
        lambda out: shutil.copytree(out / TAR.parent, out / TAR.parent / "deep"),
        r"stray: .*train2014/deep/000000.tar: manifest.json does not list it; delete it",
    ),
    "the list lost": (
        lambda out: (out / "webdataset" / "train2014.sha256").unlink(),
        r"manifest: .*train2014.sha256: listed in manifest.json, and not there",
    ),
    "a foreign list": (
        lambda out: (out / "webdataset" / "train2014.sha256").write_text(f"{'ab' * 32}  train2014/../../x\n"),
        r"listing: .*train2014.sha256, line 1: expected a SHA-256 and a file directly in train2014/, got",
    ),
    "no note": (
        lambda out: (out / "webdataset" / "train2014.source.json").unlink(),
        r"webdataset: .*train2014/: expected train2014.source.json beside it, which says",
    ),
    "stale": (
        lambda out: rewrite(out, lambda examples: [replace(one, sha256="ef" * 32) for one in examples]),
        "webdataset: .*train2014/: stale: the shards are no longer those",
    ),
    "a caption in a tar": (
        edit_file(TAR, lambda data: data.replace(b"number 0", b"number 7", 1)),
        rf"webdataset: .*{TAR}, {FIRST}.json: not the image {FIRST} of {SHARD.name}: captions differ",
    ),
    "an array in a tar": (
        change_array,
        rf"webdataset: .*{TAR}, {FIRST}.safetensors: not the image {FIRST} of {SHARD.name}: objects_conf differ",
    ),
    "another name in a tar": (
        edit_file(TAR, lambda data: data.replace(FIRST.encode(), FIRST.replace("_0", "_9").encode(), 1)),
        r"webdataset: .*.tar: expected a whole tar, got: ",
    ),
    "a sample lost": (
        without_first_sample,
        rf"webdataset: .*train2014: expected {FIRST}.json for {FIRST} of {SHARD.name}, found none",
    ),
    "a strange sample": (
        copy_file(TAR, Path("webdataset") / "val2014" / "000000.tar"),
        r"webdataset: .*000000.tar: COCO_val2014_\d+.json belongs to no image in the shards",
    ),
    "a caption in a table": (
        edit_table(lambda rows: rows[0]["captions"].__setitem__(0, "another")),
        rf"parquet: .*{TABLE}, image {FIRST}: not the image of {SHARD.name}: captions differ",
    ),
    "an array in a table": (
        edit_table(lambda rows: rows[0]["features"][2].__setitem__(0, 7.0)),
        rf"parquet: .*{TABLE}, image {FIRST}: not the image of {SHARD.name}: features differ",
    ),
    "a row lost": (
        edit_table(lambda rows: rows.pop(0)),
        rf"parquet: .*train2014: expected a row for {FIRST} of {SHARD.name}, found none",
    ),
    "a row twice": (
        edit_table(lambda rows: rows.append(rows[0])),
        rf"parquet: .*{TABLE}: image {FIRST} comes a second time",
    ),
    "a strange row": (
        edit_table(lambda rows: rows.append({**rows[0], "img_id": "x_7"})),
        r"parquet: .*train2014: 1 rows are of no image in the shards, x_7 for one",
    ),
    "another table": (
        edit_file(TABLE, lambda data: data[:-9]),
        rf"parquet: .*{TABLE}: expected a whole Parquet file, got",
    ),
    "a column lost": (
        edit_table(lambda rows: [row.pop("attrs") for row in rows]),
        rf"parquet: .*{TABLE}, image {FIRST}: not the image of {SHARD.name}: attrs differ",
    ),
    "an array of a file": (
        edit_npz(x=np.ones((8, 3), np.float32)),
        rf"openvqa: .*{NPZ}: not the image {FIRST} of {SHARD.name}: x differ",
    ),
    "an array turned": (
        edit_npz(bbox=np.zeros((4, 3), np.float32)),
        rf"openvqa: .*{NPZ}: not the image {FIRST} of {SHARD.name}: bbox differ",
    ),
    "a file torn": (
        edit_file(NPZ, lambda data: data[:300]),
        rf"openvqa: .*{NPZ}: not the image {FIRST} of {SHARD.name}: .*: expected the bytes of an npz or npy file",
    ),
    "a pickle in a file": (
        edit_npz(x=np.array([{}])),
        rf"openvqa: .*{NPZ}: not the image {FIRST} of .*: expected the bytes of an npz or npy file, got .*pickle",
    ),
    "a strange file": (
        copy_file(NPZ.with_name("x_7.jpg.npz"), NPZ),
        "openvqa: .*train2014: 1 files are of no image in the shards, x_7.jpg.npz for one",
    ),
    "an image lost": (
        lambda out: remove_file(out, NPZ),
        rf"openvqa: .*train2014: expected {NPZ.name} for {FIRST} of {SHARD.name}, found none",
    ),
    "a tar twice": (
        copy_file(TAR.with_name("x.tar"), TAR),
        rf"webdataset: .*x.tar: {FIRST}.json comes a second time",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(name: str, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, message = DAMAGES[name]
    damage(out)
    status, lines = verified(out, capsys)
    assert status == 1
    assert [line for line in lines if re.match(message, line)], "\n".join(lines)


def test_a_good_output_is_good(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verified(out, capsys) == (
        0,
        [f"{out}: 15 records in 6 shards, compared with 3 openvqa, 3 webdataset, 3 parquet: nothing wrong"],
    )
    relist(out, TAR)
    assert verified(out, capsys)[0] == 0


def test_sha256sum_checks_the_lists_from_their_folder(out: Path) -> None:
    for listing in sorted(out.rglob("*/*.sha256")):
        done = subprocess.run(
            ["sha256sum", "--check", "--strict", listing.name], cwd=listing.parent, capture_output=True
        )
        assert done.returncode == 0 and done.stdout.count(b": OK") > 0


def test_overwrite_deletes_what_is_listed_and_nothing_else(out: Path, corpus: Path) -> None:
    (out / TAR.parent / "mine.txt").write_text("mine")
    photos = corpus / "images" / "test2015"
    assert run("--images", photos, "--output", out, "--outputs", "tfrecord", "--overwrite") == 0
    left = {name for name in tree_bytes(out) if not name.startswith("tfrecord/")}
    assert left == {
        "failures.jsonl",
        "manifest.json",
        "manifest.json.sha256",
        "plan.jsonl",
        "webdataset/train2014/mine.txt",
    }


def test_the_summary_names_the_folder(out: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--corpus", corpus, "--output", out, "--outputs", "webdataset") == 0
    assert f"{out}/webdataset/train2014: 7 records in 2 tars, " in capsys.readouterr().out


def test_both_forms_of_a_format_stand_side_by_side(out: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--corpus", corpus, "--output", out, "--outputs", "imagecaptioning"]
    assert run(*flags) == 0 and run(*flags, "--imagecaptioning_form", "files") == 0
    assert f"{out}/imagecaptioning/cocobu_att: 12 files, " in capsys.readouterr().out
    listed = json.loads((out / "manifest.json").read_text())["files"]["imagecaptioning"]
    folders = ["cocobu_att", "cocobu_box", "cocobu_fc", "test2015bu_att", "test2015bu_box", "test2015bu_fc"]
    assert sorted(listed) == sorted(["cocobu", "test2015bu", *folders])
    status, lines = verified(out, capsys)
    assert (status, lines[0].count("8 imagecaptioning")) == (0, 1), lines
    (out / "imagecaptioning" / "cocobu_fc" / "10.npy").unlink()
    relist(out, Path("imagecaptioning") / "cocobu_fc" / "10.npy")
    status, lines = verified(out, capsys)
    assert status == 1 and re.match(rf"imagecaptioning: .*cocobu_fc: expected 10.npy for {FIRST} of", lines[0])


def test_names_that_a_tar_cannot_hold_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photo(tmp_path / "photos" / f"{'a' * 99}.png", 1)
    flags = ["--images", tmp_path / "photos", "--output", tmp_path / "o", "--outputs"]
    assert run(*flags, "tfrecord,webdataset") == 2
    error = capsys.readouterr().err
    assert "the output webdataset cannot hold an id of more than 88 bytes" in error and error.count("\n") == 1
    assert not (tmp_path / "o").exists()
    assert run(*flags, "tfrecord") == 0


def test_a_bucket_gets_the_same_folders_and_loses_them_by_overwrite(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        write_photo(tmp_path / "photos" / f"p_{number}.png", number)
    flags = ["--images", tmp_path / "photos", "--num_shards", 2, "--outputs"]
    assert run(*flags, f"tfrecord,{OUTPUTS}", "--output", f"{bucket}/out") == 0
    assert run(*flags, f"tfrecord,{OUTPUTS}", "--output", tmp_path / "out") == 0
    remote, local = download(f"{bucket}/out"), tree_bytes(tmp_path / "out")
    names = [name for name in local if name.startswith(tuple(OUTPUTS.split(",")))]
    assert len(names) >= 4
    assert sorted(remote) == sorted(local) and all(remote[name] == local[name] for name in names)

    status, lines = verified(f"{bucket}/out", capsys)
    assert status == 0, lines
    upload(tmp_path / "photos" / "p_0.png", f"{bucket}/out/webdataset/photos/mine.png")
    status, lines = verified(f"{bucket}/out", capsys)
    assert status == 1 and re.match("stray: .*/webdataset/photos/mine.png", lines[0])

    assert run(*flags, "tfrecord", "--output", f"{bucket}/out", "--overwrite") == 0
    left = [name for name in download(f"{bucket}/out") if name.startswith(tuple(OUTPUTS.split(",")))]
    assert left == ["webdataset/photos/mine.png"]
