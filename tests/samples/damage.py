"""An output folder, and ways to damage it."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from beam_pipeline.pipeline import main as run_pipeline
from beam_pipeline.preflight.output_folder import open_output
from beam_pipeline.verify import command as verify
from region_features.exports.base import Export
from region_features.formats.example import ImageExample, decode_example, encode_example
from region_features.formats.tfrecord import read_records, write_record
from region_features.records.audit import audit_shards
from region_features.records.stats import ShardStats
from tests.conftest import TINY_WEIGHTS
from tests.samples.exports import build
from tests.samples.fakes import FakeHandler, fake_prepare
from tests.samples.program import VOLTA
from transforms import files
from transforms.exports import ExportRequest, export_jobs

SHARD = Path("tfrecord") / "train2014-00000-of-00002.tfrecord"
LMDB = VOLTA / "trainval_feat.lmdb"
SECOND = "COCO_train2014_000000000011"
NEXT_SHARD = Path("tfrecord") / "train2014-00001-of-00002.tfrecord"
FIRST = "COCO_train2014_000000000010"  # the first image of SHARD in LMDB key order


@pytest.fixture(name="made", scope="module")
def made_once() -> dict[str, Path]:
    """Keep the output that the module's first test makes; each test gets a copy."""
    return {}


@pytest.fixture(name="out")
def copied_output(corpus: Path, tmp_path: Path, made: dict[str, Path]) -> Path:
    folder = tmp_path / "out"
    if not made:
        (corpus / "images" / "val2014" / "COCO_val2014_000000000103.jpg").write_text("no image")
        flags = ["--corpus", corpus, "--weights", TINY_WEIGHTS, "--output", tmp_path / "made", "--num_shards", 2]
        limit = ["--failure_threshold", 0.5]
        assert run_pipeline([str(flag) for flag in [*flags, *limit]], FakeHandler(), fake_prepare) == 0
        made["out"] = tmp_path / "made"
    shutil.copytree(made["out"], folder)
    return folder


def verified(out: Path | str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    capsys.readouterr()
    status = verify.main([str(out)])
    captured = capsys.readouterr()
    assert captured.err == ""
    return status, captured.out.splitlines()


def read_examples(path: Path) -> list[ImageExample]:
    with path.open("rb") as stream:
        return [decode_example(data, path.name) for data in read_records(stream, path.name)]


def rewrite(out: Path, change: Callable[[list[ImageExample]], list[ImageExample]]) -> None:
    """Change the examples of a shard, with a stats file that agrees."""
    path = out / SHARD
    examples = change(read_examples(path))
    with path.open("wb") as stream:
        for example in examples:
            write_record(stream, encode_example(example))
    edit_stats(out, num_bytes=path.stat().st_size, sha256=files.sha256_of(str(path)))


def edit_stats(out: Path, **changes: Any) -> None:
    path = out / f"{SHARD}.stats.json"
    stats = ShardStats.from_json(path.read_bytes(), path.name)
    path.write_bytes(replace(stats, **changes).to_json())


def with_first(change: Callable[[ImageExample], ImageExample]) -> Callable[[Path], None]:
    return lambda out: rewrite(out, lambda examples: [change(examples[0]), *examples[1:]])


def with_array(name: str, index: int | tuple[int, ...], value: float) -> Callable[[Path], None]:
    def change(example: ImageExample) -> ImageExample:
        arrays: dict[str, Any] = {name: np.array(getattr(example.record, name))}
        arrays[name][index] = value
        return replace(example, record=replace(example.record, **arrays))

    return with_first(change)


def edit_json(name: str, change: Callable[[Any], object]) -> Callable[[Path], None]:
    def damage(out: Path) -> None:
        content = json.loads((out / name).read_text())
        change(content)
        (out / name).write_text(json.dumps(content))

    return damage


def reseal(out: Path) -> None:
    """Make the manifest list the files as they are now, and its digest fit."""
    manifest = json.loads((out / "manifest.json").read_text())
    for path in manifest["digests"]:
        if (out / path).exists():
            manifest["digests"][path] = files.digest_of(str(out / path))
    data = json.dumps(manifest).encode()
    (out / "manifest.json").write_bytes(data)
    (out / "manifest.json.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  manifest.json\n")


def edit_lmdb(change: Callable[[Any], object]) -> Callable[[Path], None]:
    """Change records, with a source.json and a manifest that agree on the new file."""

    def damage(out: Path) -> None:
        with lmdb.open(str(out / LMDB), map_size=1 << 26, lock=False) as env, env.begin(write=True) as transaction:
            change(transaction)
        size = (out / LMDB / "data.mdb").stat().st_size
        edit_json(str(LMDB / "source.json"), lambda note: note["files"].update({"data.mdb": size}))(out)
        reseal(out)

    return damage


def lines_of(name: str, change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    """Change the lines of an annotation file, with a manifest that agrees on the new file."""

    def damage(out: Path) -> None:
        path = out / "annotations" / name
        path.write_text("\n".join([*change(path.read_text().splitlines()), ""]))
        reseal(out)

    return damage


def flip_byte(out: Path) -> None:
    data = bytearray((out / SHARD).read_bytes())
    data[len(data) // 2] ^= 1
    (out / SHARD).write_bytes(data)


def swap_shards(out: Path) -> None:
    """Replace a shard by another whole one, with the old stats."""
    rewritten = [replace(example, sha256="cd" * 32) for example in read_examples(out / SHARD)]
    with (out / SHARD).open("wb") as stream:
        for example in rewritten:
            write_record(stream, encode_example(example))


def put_strange_class(transaction: Any) -> None:
    class Strange:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (print, ("must not run",))

    transaction.put(b"10", pickle.dumps(Strange()))


def change_value(transaction: Any) -> None:
    value = pickle.loads(transaction.get(b"10"))
    value["img_h"] = "31"
    value["features"] = "AAAA" + value["features"][4:]
    transaction.put(b"10", pickle.dumps(value))


def empty_key_list(transaction: Any) -> None:
    transaction.put(b"keys", pickle.dumps(pickle.loads(transaction.get(b"keys"))[1:]))


def wide_first(example: ImageExample) -> ImageExample:
    record = example.record
    return replace(example, record=replace(record, features=np.zeros((record.num_boxes, 9), np.float32)))


def build_anew(export: Export, out: Path) -> None:
    """Build every target of an export from the shards as they are."""
    folder = open_output(str(out))
    assert folder.plan is not None
    audit = audit_shards(folder.plan, folder.stats, 1.0)
    request = ExportRequest((export,), str(out), str(out / "tfrecord"), None, folder.plan.settings)
    for job in export_jobs(audit, request):
        build(job)
