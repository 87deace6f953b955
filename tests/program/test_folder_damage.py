"""Folders of tars, tables, files and JSON damaged in turn: it is named, and the exit status is 1."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.samples.damage import FIRST, SHARD, rewrite, verified
from tests.samples.folder_outputs import (  # noqa: F401
    JSON,
    NPZ,
    TABLE,
    TAR,
    change_array,
    copied_output,
    copy_file,
    edit_content,
    edit_file,
    edit_npz,
    edit_table,
    flip,
    made_once,
    remove_file,
    without_first_sample,
)

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
    "a box of the JSON": (
        edit_content(lambda content: content["annotations"][1]["bbox"].__setitem__(0, 77.0)),
        rf"coco-json: .*{JSON}, image {FIRST}: not that of {SHARD.name}: bbox of annotation 2 differ",
    ),
    "an annotation lost": (
        edit_content(lambda content: content["annotations"].pop(1)),
        rf"coco-json: .*{JSON}, image {FIRST}: not that of {SHARD.name}: expected 3 annotations, got 2",
    ),
    "an image of the JSON": (
        edit_content(lambda content: content["images"][0].update(width=7)),
        rf"coco-json: .*{JSON}, image {FIRST}: not that of {SHARD.name}: its row differs",
    ),
    "an image of the JSON lost": (
        edit_content(lambda content: content["images"].pop(0)),
        rf"coco-json: .*{JSON}: expected an image {FIRST}.jpg for {FIRST} of {SHARD.name}, found none",
    ),
    "annotations of no image": (
        edit_content(lambda content: content["images"].pop(0)),
        rf"coco-json: .*{JSON}: annotations of no image, 10 for one",
    ),
    "a strange image": (
        edit_content(lambda content: content["images"].append({"id": 77, "file_name": "x"})),
        rf"coco-json: .*{JSON}: 1 images are not in the shards",
    ),
    "an image of the JSON twice": (
        edit_content(lambda content: content["images"].append(content["images"][0])),
        rf"coco-json: .*{JSON}: image 10, {FIRST}.jpg, comes a second time",
    ),
    "an image without id": (
        edit_content(lambda content: content["images"].append({"id": []})),
        rf"coco-json: .*{JSON}: expected an image with a number as id and a file name, got",
    ),
    "annotations numbered anew": (
        edit_content(lambda content: [row.update(id=row["id"] + 5) for row in content["annotations"]]),
        rf"coco-json: .*{JSON}: expected annotations numbered from 1, got 6 next",
    ),
    "a category": (
        edit_content(lambda content: content["categories"][0].update(name="dog")),
        rf"coco-json: .*{JSON}: expected categories from 1 with Visual Genome's names, or none, got others",
    ),
    "another JSON": (
        lambda out: (out / JSON).write_bytes(b"[]".ljust((out / JSON).stat().st_size)),
        rf"coco-json: .*{JSON}: expected annotations, images and categories, a line an image, got another",
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
