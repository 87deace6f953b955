"""Each thing in an output folder damaged in turn: it is named, and the exit status is 1."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.samples.damage import (  # noqa: F401
    FIRST,
    LMDB,
    NEXT_SHARD,
    SECOND,
    SHARD,
    change_value,
    copied_output,
    edit_json,
    edit_lmdb,
    edit_stats,
    empty_key_list,
    flip_byte,
    lines_of,
    made_once,
    put_strange_class,
    read_examples,
    rewrite,
    swap_shards,
    verified,
    wide_first,
    with_array,
    with_first,
)

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
        edit_json(
            "manifest.json", lambda all_: all_["files"].update(tsv={"a.tsv": {"rows": 1, "files": {"a.tsv": 9}}})
        ),
        "manifest: a.tsv: listed in manifest.json as tsv, and of no set of the plan",
    ),
    "listed file": (
        edit_json("manifest.json", lambda all_: all_["digests"].update({"plan.jsonl": {"bytes": 9, "sha256": ""}})),
        r"manifest: .*/plan.jsonl: expected 9 bytes \(manifest.json\), got \d+",
    ),
    "listed file of other content": (
        edit_json("manifest.json", lambda all_: all_["digests"]["plan.jsonl"].update(sha256="ab")),
        "manifest: .*/plan.jsonl: expected the SHA-256 that manifest.json lists, got another",
    ),
    "lost file": (
        lambda out: (out / "failures.jsonl").unlink(),
        "manifest: .*/failures.jsonl: listed in manifest.json, and not there",
    ),
    "manifest changed": (
        edit_json("manifest.json", lambda all_: all_["versions"].update(numpy="1.0")),
        "manifest: .*manifest.json: expected the SHA-256 that manifest.json.sha256 says, got another",
    ),
    "no digest of the manifest": (
        lambda out: (out / "manifest.json.sha256").unlink(),
        "manifest: .*manifest.json.sha256: cannot be read",
    ),
    "stray file": (
        lambda out: (out / "annotations" / "notes.txt").write_text("x"),
        "stray: .*/annotations/notes.txt: manifest.json does not list it",
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
        rf"lmdb: .*{LMDB.name}/data.mdb: expected \d+ bytes \(source.json\), got 9000",
    ),
    "no LMDB in data.mdb": (
        lambda out: (out / LMDB / "data.mdb").write_bytes(bytes((out / LMDB / "data.mdb").stat().st_size)),
        rf"lmdb: .*{LMDB.name}: expected an LMDB that can be opened, got ",
    ),
    "unknown form": (
        edit_json(str(LMDB / "source.json"), lambda note: note["settings"].update(lmdb_form="other")),
        rf"lmdb: .*{LMDB.name}: expected a form of volta, .*, got 'other'",
    ),
    "no source": (
        lambda out: (out / LMDB / "source.json").unlink(),
        "lmdb: .*data.mdb: expected source.json beside it, which says what it was",
    ),
    "stale LMDB": (
        lambda out: rewrite(out, lambda examples: [replace(one, sha256="ef" * 32) for one in examples]),
        rf"lmdb: .*{LMDB.name}/data.mdb: stale: the shards are no longer those that it was built from",
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
    assert re.search(rf"\b{len(lines) - 1} problems?$", lines[-1])
