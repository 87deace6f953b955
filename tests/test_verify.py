"""Each thing in an output folder damaged in turn: it is named, and the exit status is 1."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from beam_pipeline import verify
from beam_pipeline.pipeline import main as run_pipeline
from tests.conftest import TINY_WEIGHTS, write_photo
from tests.fakes import FakeHandler, fake_prepare
from tests.test_gs import bucket, copy_up  # noqa: F401
from transforms.lmdb_file import LmdbJob, build_lmdb
from transforms.records.checks import Problem
from transforms.records.example_codec import ImageExample, decode_example, encode_example
from transforms.records.shard_stats import ShardStats
from transforms.records.tfrecord_io import read_records, write_record

VOLTA = Path("resnet101_faster_rcnn_genome_imgfeats") / "volta"
SHARD = Path("tfrecord") / "train2014-00000-of-00002.tfrecord"
LMDB = VOLTA / "trainval_feat.lmdb"
SECOND = "COCO_train2014_000000000011"
NEXT_SHARD = Path("tfrecord") / "train2014-00001-of-00002.tfrecord"
FIRST = "COCO_train2014_000000000010"  # the first of SHARD in the order of the keys' bytes


@pytest.fixture(scope="module")
def made() -> dict[str, Path]:
    """The output that the first test here made, to be copied by the others."""
    return {}


@pytest.fixture
def out(corpus: Path, tmp_path: Path, made: dict[str, Path]) -> Path:
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
    """Write the shard anew, with a stats file that vouches for it."""
    path = out / SHARD
    examples = change(read_examples(path))
    with path.open("wb") as stream:
        for example in examples:
            write_record(stream, encode_example(example))
    edit_stats(out, num_bytes=path.stat().st_size, sha256=verify.files.sha256_of(str(path)))


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


def edit_lmdb(change: Callable[[Any], object]) -> Callable[[Path], None]:
    """Changes records, and lets source.json and the manifest tell the new size."""

    def damage(out: Path) -> None:
        with lmdb.open(str(out / LMDB), map_size=1 << 26, lock=False) as env, env.begin(write=True) as transaction:
            change(transaction)
        size = (out / LMDB / "data.mdb").stat().st_size
        edit_json(str(LMDB / "source.json"), lambda source: source.update(data_bytes=size))(out)
        edit_json("manifest.json", lambda all_: all_["files"]["lmdb"][LMDB.name].update(bytes=size))(out)

    return damage


def lines_of(name: str, change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    """Changes the lines of a caption file, and lets the manifest tell the new size."""

    def damage(out: Path) -> None:
        path = out / "annotations" / name
        path.write_text("\n".join([*change(path.read_text().splitlines()), ""]))
        size = path.stat().st_size
        edit_json("manifest.json", lambda all_: all_["files"]["annotations"].update({name: size}))(out)

    return damage


def flip_byte(out: Path) -> None:
    data = bytearray((out / SHARD).read_bytes())
    data[len(data) // 2] ^= 1
    (out / SHARD).write_bytes(data)


def swap_shards(out: Path) -> None:
    """Another whole shard under the same name and of the same stats."""
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


def test_a_good_output_is_good(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = verified(out, capsys)
    assert lines == [f"{out}: 14 records in 6 shards, 2 LMDBs compared: nothing wrong"]
    assert status == 0


def test_outputs_that_the_manifest_does_not_list_are_not_missed(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--corpus", corpus, "--weights", TINY_WEIGHTS, "--output", tmp_path / "o", "--outputs", "tfrecord"]
    assert run_pipeline([str(flag) for flag in flags], FakeHandler(), fake_prepare) == 0
    assert verified(tmp_path / "o", capsys)[0] == 0
    flags = ["--corpus", corpus, "--output", tmp_path / "c", "--outputs", "captions"]
    assert run_pipeline([str(flag) for flag in flags]) == 0
    assert verified(tmp_path / "c", capsys)[0] == 0


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "byte": (flip_byte, rf"shard: {SHARD.name}, record at byte \d+: expected checksum"),
    "truncated": (
        lambda out: (out / SHARD).write_bytes((out / SHARD).read_bytes()[:-7]),
        rf"shard: {SHARD.name}: expected \d+ bytes as its stats say, got \d+",
    ),
    "other bytes": (swap_shards, rf"shard: {SHARD.name}: expected sha256 \w+ as its stats say, got \w+"),
    "lost record": (
        lambda out: rewrite(out, lambda examples: examples[1:]),
        rf"shard: {SHARD.name}: expected the 3 images of its stats, got 2 records: 1 are missing.*{FIRST} for one",
    ),
    "repeated record": (
        lambda out: rewrite(out, lambda examples: [*examples, examples[0]]),
        rf"duplicate: {SHARD.name}: image {FIRST} has the LMDB key of {FIRST} in {SHARD.name}",
    ),
    "record in two shards": (
        lambda out: rewrite(out, lambda examples: [*examples, *read_examples(out / NEXT_SHARD)[:1]]),
        rf"duplicate: {NEXT_SHARD.name}: image \w+ has the LMDB key of \w+ in {SHARD.name}",
    ),
    "order": (
        lambda out: rewrite(out, lambda examples: [examples[1], examples[0], *examples[2:]]),
        rf"order: {SHARD.name}: image {FIRST} comes after {SECOND}",
    ),
    "NaN": (
        with_array("features", (2, 3), np.nan),
        rf"nan: {SHARD.name}, image {FIRST}, field features: 1 values are NaN or infinite, first at \(2, 3\)",
    ),
    "infinite": (with_array("boxes", (0, 0), np.inf), rf"nan: .*{FIRST}, field boxes: 1 values"),
    "probability": (
        with_array("cls_prob", (0, 1), 1.5),
        rf"probabilities: .*{FIRST}, field cls_prob: expected values from 0 to 1, got .* to 1.5",
    ),
    "negative": (with_array("attrs_conf", 0, -0.1), r"probabilities: .*attrs_conf.* got -0.1 to"),
    "box outside": (
        with_array("boxes", (1, 2), 41),
        rf"boxes: .*{FIRST}: expected boxes inside the image of 40 x 30; 1 are not, box 1 for one: .*41",
    ),
    "box turned": (with_array("boxes", (1, 0), 40), r"boxes: .*expected boxes x1, y1, x2, y2; 1 are not, box 1"),
    "class": (with_array("objects_id", 0, 4), r"ids: .*field objects_id: expected ids from 0 below 4, got \d to 4"),
    "width": (with_first(wide_first), rf"shapes: features: expected one width in all shards, got 8 .*, 9 \({FIRST}"),
    "no stats": (
        lambda out: (out / f"{SHARD}.stats.json").unlink(),
        rf"stats: {SHARD.name}: it has no stats file, the mark that it is whole",
    ),
    "torn stats": (
        lambda out: (out / f"{SHARD}.stats.json").write_text("{"),
        rf"stats: .*{SHARD.name}.stats.json: expected a shard's stats",
    ),
    "no shard": (lambda out: (out / SHARD).unlink(), rf"plan: {SHARD.name}: planned for 3 images, and not there"),
    "strange shard": (
        lambda out: shutil.copy(out / SHARD, out / "tfrecord" / "x-00000-of-00001.tfrecord"),
        "plan: x-00000-of-00001.tfrecord: the plan has no such shard",
    ),
    "settings": (
        lambda out: edit_stats(out, settings={"min_boxes": 1}),
        rf"plan: {SHARD.name}: made with other settings",
    ),
    "inputs": (lambda out: edit_stats(out, inputs="0"), rf"plan: {SHARD.name}: made of other images than the plan's"),
    "no plan": (lambda out: (out / "plan.jsonl").unlink(), "plan: .*plan.jsonl: expected the plan of the shards"),
    "torn plan": (lambda out: (out / "plan.jsonl").write_text("x"), "plan: .*plan.jsonl: expected the plan of an"),
    "no manifest": (lambda out: (out / "manifest.json").unlink(), "manifest: .*manifest.json: not there: the run has"),
    "torn manifest": (lambda out: (out / "manifest.json").write_text("[]"), "manifest: .*: expected a run's manifest"),
    "failed run": (
        edit_json("manifest.json", lambda all_: all_.update(status="failed", reason="too many")),
        "manifest: manifest.json: the run failed: too many",
    ),
    "count of a set": (
        edit_json("manifest.json", lambda all_: all_["sets"]["val2014"].update(written=5)),
        "manifest: manifest.json, set val2014: expected written 4 as the stats say, got 5",
    ),
    "count": (
        edit_json("manifest.json", lambda all_: all_["counts"].update(failed=0)),
        "manifest: manifest.json, counts: expected failed 1 as in all sets, got 0",
    ),
    "sha256 listed": (
        edit_json("manifest.json", lambda all_: all_["files"]["tfrecord"][SHARD.name].update(sha256="0")),
        rf"manifest: manifest.json, {SHARD.name}: expected .* \(stats\), got .*'0'",
    ),
    "listed shard": (
        edit_json("manifest.json", lambda all_: all_["files"]["tfrecord"].update({"a.tfrecord": {}})),
        "manifest: a.tfrecord: listed in manifest.json, and not there",
    ),
    "listed TSV": (
        edit_json("manifest.json", lambda all_: all_["files"].update(tsv={"a.tsv": {"rows": 1, "bytes": 9}})),
        "manifest: .*/resnet101_faster_rcnn_genome_imgfeats/a.tsv: listed in manifest.json, and not there",
    ),
    "listed negatives": (
        edit_json("manifest.json", lambda all_: all_["files"].update(negatives={"plan.jsonl": {"bytes": 9}})),
        r"manifest: .*/plan.jsonl: expected 9 bytes \(manifest.json\), got \d+",
    ),
    "settings listed": (
        edit_json("manifest.json", lambda all_: all_["settings"].update(max_boxes=100)),
        "manifest: manifest.json: other settings than the plan's",
    ),
    "failures": (lambda out: (out / "failures.jsonl").write_text(""), r"failures: .*no line for COCO_val2014_0+103"),
    "no LMDB": (
        lambda out: shutil.rmtree(out / LMDB),
        f"manifest: .*/{LMDB.name}/data.mdb: listed in manifest.json, and not there",
    ),
    "key dropped": (
        edit_lmdb(lambda transaction: transaction.delete(b"10")),
        rf"lmdb: .*{LMDB.name}: expected key '10' for {FIRST} of {SHARD.name}, found none",
    ),
    "key dropped, and still listed": (
        edit_lmdb(lambda transaction: transaction.delete(b"10")),
        rf"lmdb: .*{LMDB.name}: its record 'keys' names keys that are not there: 1, 10 for one",
    ),
    "key added": (
        edit_lmdb(lambda transaction: transaction.put(b"11111", transaction.get(b"10"))),
        rf"lmdb: .*{LMDB.name}: 1 keys are of no image in the shards, '11111' for one",
    ),
    "key not listed": (edit_lmdb(empty_key_list), rf"lmdb: .*{LMDB.name}: its record 'keys' lacks keys: 1, 10 for one"),
    "value": (
        edit_lmdb(change_value),
        rf"lmdb: .*{LMDB.name}, key '10': not the record of {FIRST} in {SHARD.name}: img_h, features differ",
    ),
    "value that runs code": (edit_lmdb(put_strange_class), r"lmdb: .*key b'10': .*asks for builtins.print"),
    "LMDB cut off": (
        lambda out: (out / LMDB / "data.mdb").write_bytes((out / LMDB / "data.mdb").read_bytes()[:9000]),
        rf"lmdb: .*{LMDB.name}: expected data.mdb of \d+ bytes \(source.json\), got 9000",
    ),
    "no LMDB in data.mdb": (
        lambda out: (out / LMDB / "data.mdb").write_bytes(bytes((out / LMDB / "data.mdb").stat().st_size)),
        rf"lmdb: .*{LMDB.name}: expected an LMDB that can be opened, got ",
    ),
    "unknown form": (
        edit_json(str(LMDB / "source.json"), lambda source: source.update(form="other")),
        rf"lmdb: .*{LMDB.name}: expected the form volta, got 'other'",
    ),
    "no source": (lambda out: (out / LMDB / "source.json").unlink(), "lmdb: .*source.json does not say what it was"),
    "stale LMDB": (
        lambda out: rewrite(out, lambda examples: [replace(one, sha256="ef" * 32) for one in examples]),
        rf"lmdb: .*{LMDB.name}: stale: the shards are no longer those that it was built from",
    ),
    "caption line": (
        lines_of("train_ann.jsonl", lambda lines: lines[1:]),
        r"captions: train_ann.jsonl: expected a line for image COCO_train2014_0+9 of split train",
    ),
    "sentence": (
        lines_of("train_ann.jsonl", lambda lines: [lines[0].replace("number 0", "number 7"), *lines[1:]]),
        r"captions: train_ann.jsonl, line 1: other sentences than the shard has for image COCO_train2014_0+9",
    ),
    "order of captions": (
        lines_of("train_ann.jsonl", lambda lines: [lines[-1], *lines[:-1]]),
        r"captions: train_ann.jsonl, line 1: restval image COCO_val2014_0+102 stands before train image",
    ),
    "repeated id": (
        lines_of("test_ann.jsonl", lambda lines: [*lines, lines[0]]),
        "captions: test_ann.jsonl, line 3: id 100 comes a second time",
    ),
    "two splits": (
        lines_of("valid_ann.jsonl", lambda lines: [*lines, lines[0].replace('"id": 101', '"id": 100')]),
        "captions: valid_ann.jsonl and test_ann.jsonl: both have id 100",
    ),
    "no test id": (
        lines_of("test1k_ann.jsonl", lambda lines: [*lines, lines[0].replace('"id": 100', '"id": 5')]),
        "captions: test1k_ann.jsonl, line 3: id 5 is not in test_ann.jsonl",
    ),
    "no JSON": (lines_of("test_ann.jsonl", lambda lines: ["{", *lines]), "captions: test_ann.jsonl, line 1: expected"),
    "size of captions": (
        lambda out: (out / "annotations" / "test_ann.jsonl").open("a").write("\n"),
        r"manifest: .*/annotations/test_ann.jsonl: expected \d+ bytes \(manifest.json\), got \d+",
    ),
    "captions denied": (
        edit_json("manifest.json", lambda all_: all_["captions"]["images_without_captions"]["img_ids"].append(FIRST)),
        rf"captions: {SHARD.name}: image {FIRST} has captions, which manifest.json denies",
    ),
    "captions lost": (
        with_first(lambda example: replace(example, captions=(), caption_ids=(), split="")),
        rf"captions: {SHARD.name}: image {FIRST} lacks the captions that manifest.json counts",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(name: str, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, message = DAMAGES[name]
    damage(out)
    status, lines = verified(out, capsys)
    assert status == 1
    assert [line for line in lines if re.match(message, line)], "\n".join(lines)
    assert f"{len(lines) - 1} problems" in lines[-1]


def test_an_lmdb_of_damaged_records_but_current_is_compared(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """NaN compares as itself: an LMDB built from shards with NaN equals them."""
    with_array("features", (0, 0), np.nan)(out)
    shards = tuple(
        tuple(str(out / "tfrecord" / f"{name}-0000{part}-of-00002.tfrecord") for part in (0, 1))
        for name in ("train2014", "val2014")
    )
    found = verify.open_output(str(out))
    assert found.plan is not None
    digest = verify.audit_shards(found.plan, found.stats, 1.0).lmdbs["trainval"][1]
    build_lmdb(LmdbJob("trainval", str(out / LMDB), shards, digest))
    _, lines = verified(out, capsys)
    assert {line.partition(":")[0] for line in lines[:-1]} == {"nan", "manifest"}  # the manifest has the old sha256


def test_problems_of_a_kind_are_counted_from_the_twentieth_on() -> None:
    problems = [Problem("nan", f"image {number}") for number in range(23)] + [Problem("order", "a\nb")]
    lines = list(verify.problem_lines(problems))
    assert lines[0] == "nan: image 0" and lines[19] == "nan: image 19"
    assert lines[20:] == ["order: a b", "nan: and 3 more"]


@pytest.mark.parametrize("content", [None, "strangers"])
def test_wrong_use(content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "none"
    if content:
        folder.mkdir()
        (folder / "notes.txt").write_text(content)
    assert verify.main([str(folder)]) == 2
    assert f"verify: {folder}: expected the --output of a run" in capsys.readouterr().err


def test_captions_of_other_sets_are_found_by_their_sentences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    rows = []
    for number in range(3):
        write_photo(photos / f"dog_{number}.png", number)
        sentences = [{"raw": f"dog {number}", "sentid": number}]
        row = {"filename": f"dog_{number}.png", "split": "val", "sentences": sentences, "cocoid": 70 + number}
        rows.append(row)
    (tmp_path / "c.json").write_text(json.dumps({"images": rows}))
    flags = [
        "--images",
        photos,
        "--captions",
        tmp_path / "c.json",
        "--weights",
        TINY_WEIGHTS,
        "--output",
        tmp_path / "o",
    ]
    assert run_pipeline([str(flag) for flag in flags], FakeHandler(), fake_prepare) == 0
    assert verified(tmp_path / "o", capsys)[0] == 0
    lines_of("valid_ann.jsonl", lambda lines: lines[1:])(tmp_path / "o")
    status, lines = verified(tmp_path / "o", capsys)
    assert status == 1 and "expected a line for image dog_0" in lines[0]


def test_a_remote_output(bucket: str, out: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    for path in out.rglob("*"):
        if path.is_file():
            copy_up(path, f"{bucket}/out/{path.relative_to(out)}")
    status, lines = verified(f"{bucket}/out", capsys)
    assert status == 0, lines
    assert lines[0].startswith("note: the LMDBs are remote") and "14 records in 6 shards" in lines[1]
    flip_byte(out)
    copy_up(out / SHARD, f"{bucket}/out/{SHARD}")
    status, lines = verified(f"{bucket}/out", capsys)
    assert status == 1 and "expected checksum" in lines[0]
    assert verify.main([f"{bucket}/none"]) == 2
