"""`--reuse`: a corpus that changed costs what changed, and the result is that of a full run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.pipeline import main
from beam_pipeline.verify.command import verify
from region_features.records.coco import CAPTIONS_FILE
from region_features.records.stats import STATS_SUFFIX
from tests.conftest import TINY_WEIGHTS, karpathy_row, tree_bytes, write_photo
from tests.samples.fakes import FakeHandler, fake_prepare
from transforms import files
from transforms.shards import read_shard

SETS, IMAGES = ("train2014", "val2014"), 24
OUTPUTS = "tfrecord,captions,lmdb,tsv,negatives"
DETECTED: list[str] = []


class CountingHandler(FakeHandler):
    """Remember which images came to the network."""

    def run_inference(self, batch: Sequence[Any], model: Any, inference_args: dict[str, Any] | None = None) -> Iterable:
        DETECTED.extend(example.img_id for example in batch if hasattr(example, "pixels"))
        return super().run_inference(batch, model, inference_args)


def photo(corpus: Path, coco_id: int, seed: int | None = None) -> Path:
    name = SETS[coco_id % 2]
    path = corpus / "images" / name / f"COCO_{name}_{coco_id:012d}.png"
    write_photo(path, coco_id if seed is None else seed)
    return path


def write_captions(corpus: Path, coco_ids: Iterable[int], edited: Iterable[int] = ()) -> None:
    rows = []
    for coco_id in coco_ids:
        name = SETS[coco_id % 2]
        row = karpathy_row(name, f"COCO_{name}_{coco_id:012d}.png", coco_id, "train" if coco_id % 3 else "test")
        if coco_id in edited:
            row["sentences"][0]["raw"] = f"An edited caption of {coco_id}."
        rows.append(row)
    (corpus / CAPTIONS_FILE).write_text(json.dumps({"images": rows, "dataset": "coco"}))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for coco_id in range(IMAGES):
        photo(tmp_path / "mscoco", coco_id)
    write_captions(tmp_path / "mscoco", range(IMAGES))
    return tmp_path / "mscoco"


def extract(corpus: Path, out: Path, *flags: object) -> dict[str, Any]:
    """Run the program with every output; return the manifest. `DETECTED` then holds what came to the network."""
    DETECTED.clear()
    argv = ["--corpus", corpus, "--output", out, "--outputs", OUTPUTS, "--weights", TINY_WEIGHTS, *flags]
    assert main([*map(str, argv)], CountingHandler(), fake_prepare) == 0
    return dict(json.loads((out / "manifest.json").read_text()))


def same_bytes(first: Path, second: Path) -> None:
    """Check that two outputs hold the same exports, and the same records in the same order."""
    trees = []
    for out in (first, second):
        tree = tree_bytes(out)
        exports = {name: data for name, data in tree.items() if name.startswith(("annotations", "resnet101"))}
        exports |= {name: data for name, data in tree.items() if name in ("hard_negative.pkl", "hard_negative.npz")}
        trees.append({name: data for name, data in exports.items() if not name.endswith("source.json")})
    assert trees[0].keys() == trees[1].keys() and len(trees[0]) > 6
    assert {name for name in trees[0] if trees[0][name] != trees[1][name]} == set()
    assert records(first) == records(second)


def records(out: Path) -> list[bytes]:
    return [record for path in sorted((out / "tfrecord").glob("*.tfrecord")) for record in read_shard(str(path))]


def test_a_corpus_that_grew_shrank_and_changed_costs_what_changed(corpus: Path, tmp_path: Path) -> None:
    old, new, full = (tmp_path / name for name in ("old", "new", "full"))
    extract(corpus, old)
    assert len(DETECTED) == IMAGES
    for coco_id in (100, 101):
        photo(corpus, coco_id)
    changed = photo(corpus, 4, seed=400)
    (corpus / "images" / "train2014" / "COCO_train2014_000000000006.png").unlink()
    write_captions(corpus, [*range(IMAGES), 100], edited=[8, 9])
    manifest = extract(corpus, new, "--reuse", old)
    assert sorted(DETECTED) == sorted([changed.stem, "COCO_train2014_000000000100", "COCO_val2014_000000000101"])
    total = IMAGES + 2 - 1
    assert manifest["counts"] == {"in": total, "written": total, "failed": 0, "computed": 3, "reused": total - 3}
    extract(corpus, full)
    assert len(DETECTED) == total
    same_bytes(new, full)
    assert verify(str(new), inputs=True).problems == ()
    assert not list(new.rglob(f"{files.TEMP_PREFIX}*"))


def test_an_unchanged_corpus_is_linked_and_costs_no_inference(corpus: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    extract(corpus, old, "--num_shards", 3)
    manifest = extract(corpus, new, "--reuse", old)
    assert DETECTED == [] and manifest["counts"]["reused"] == IMAGES
    same_bytes(old, new)
    shards = sorted((old / "tfrecord").glob("*.tfrecord"))
    assert len(shards) == 6 and all(os.path.samefile(path, new / "tfrecord" / path.name) for path in shards)
    # The old output may go; a third one may build on the second.
    shutil.rmtree(old)
    assert extract(corpus, tmp_path / "third", "--reuse", new)["counts"]["reused"] == IMAGES
    assert verify(str(tmp_path / "third")).problems == ()


def test_edited_captions_alone_cost_no_inference(corpus: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    extract(corpus, old)
    write_captions(corpus, range(1, IMAGES), edited=range(5))
    extract(corpus, new, "--reuse", old)
    assert DETECTED == []
    extract(corpus, tmp_path / "full")
    same_bytes(new, tmp_path / "full")


def test_a_copied_corpus_is_compared_by_content(corpus: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    extract(corpus, old)
    moved = tmp_path / "moved"
    shutil.copytree(corpus, moved)
    for path in moved.rglob("*.png"):
        os.utime(path, ns=(1, 1))
    photo(moved, 7, seed=700)
    extract(moved, new, "--reuse", old)
    assert DETECTED == ["COCO_val2014_000000000007"]
    extract(moved, tmp_path / "full")
    same_bytes(new, tmp_path / "full")


def test_only_checksum_finds_a_change_that_keeps_size_and_time(corpus: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    extract(corpus, old)
    path = photo(corpus, 3)
    size, times = path.stat().st_size, path.stat()
    for seed in range(300, 400):
        photo(corpus, 3, seed=seed)
        if path.stat().st_size <= size:
            break
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))  # bytes behind a PNG's end are not read
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    extract(corpus, tmp_path / "touched", "--reuse", old)
    assert DETECTED == ["COCO_val2014_000000000003"]  # its file was written again after the first run
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    extract(corpus, tmp_path / "unseen", "--reuse", tmp_path / "touched")
    write_photo(path, 3)
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    extract(corpus, tmp_path / "unseen", "--reuse", tmp_path / "touched", "--overwrite")
    assert DETECTED == []
    extract(corpus, tmp_path / "seen", "--reuse", tmp_path / "touched", "--checksum")
    assert DETECTED == ["COCO_val2014_000000000003"]


def test_failed_images_are_tried_again(corpus: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    broken = corpus / "images" / "train2014" / "COCO_train2014_000000000002.png"
    good = broken.read_bytes()
    broken.write_bytes(b"no image")
    extract(corpus, old, "--failure_threshold", 1)
    manifest = extract(corpus, new, "--reuse", old, "--failure_threshold", 1)
    assert DETECTED == [] and manifest["counts"] == {
        "in": IMAGES,
        "written": IMAGES - 1,
        "failed": 1,
        "computed": 0,
        "reused": IMAGES - 1,
    }
    broken.write_bytes(good)
    extract(corpus, tmp_path / "third", "--reuse", new)
    assert [broken.stem] == DETECTED


def test_an_interrupted_run_is_reused_as_far_as_it_came(corpus: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    extract(corpus, old, "--num_shards", 4)
    for name in ("manifest.json", "tfrecord/val2014-00002-of-00004.tfrecord" + STATS_SUFFIX):
        (old / name).unlink()
    extract(corpus, new, "--reuse", old)
    assert len(DETECTED) == 3
    # Of another cut, too: each record is read where it lies.
    extract(corpus, tmp_path / "other", "--reuse", new, "--num_shards", 5)
    assert DETECTED == []
    same_bytes(new, tmp_path / "other")


@pytest.mark.parametrize("another_changes", [False, True])
def test_a_damaged_record_is_computed(
    another_changes: bool, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also in a shard of which nothing changed, and which would be linked."""
    old, new = tmp_path / "old", tmp_path / "new"
    extract(corpus, old, "--num_shards", 1)
    shard = old / "tfrecord" / "train2014-00000-of-00001.tfrecord"
    first = len(next(iter(read_shard(str(shard))))) + 16
    data = bytearray(shard.read_bytes())
    data[first + 100] ^= 1
    shard.write_bytes(data)
    if another_changes:
        photo(corpus, 100)
    extract(corpus, new, "--reuse", old)
    assert len(DETECTED) == IMAGES // 2 - 1 + another_changes
    said = f"{shard} is damaged: what cannot be read of it is computed" in capsys.readouterr().err
    assert said != another_changes
    extract(corpus, tmp_path / "full", "--num_shards", 1)
    same_bytes(new, tmp_path / "full")


def test_other_settings_take_over_nothing_and_say_so(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(corpus, tmp_path / "old")
    capsys.readouterr()
    extract(corpus, tmp_path / "new", "--reuse", tmp_path / "old", "--pixel_limit", 1000000)
    assert len(DETECTED) == IMAGES
    said = capsys.readouterr().err
    assert f"no record of --reuse {tmp_path / 'old'} is taken over: the settings changed: pixel_limit was 89" in said


def test_a_try_with_a_limit_is_reused_by_the_whole_run(corpus: Path, tmp_path: Path) -> None:
    tried, whole = tmp_path / "tried", tmp_path / "whole"
    manifest = extract(corpus, tried, "--limit", 5, "--outputs", "tfrecord")
    assert len(DETECTED) == 5 and {name: row["in"] for name, row in manifest["sets"].items()} == {
        "train2014": 3,
        "val2014": 2,
    }
    extract(corpus, whole, "--reuse", tried)
    assert len(DETECTED) == IMAGES - 5
    extract(corpus, tmp_path / "full")
    same_bytes(whole, tmp_path / "full")


def test_a_rerun_of_a_grown_corpus_names_the_flag(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    extract(corpus, out)
    photo(corpus, 100)
    assert main(["--corpus", str(corpus), "--output", str(out), "--weights", str(TINY_WEIGHTS)], FakeHandler()) == 2
    said = capsys.readouterr().err
    assert f"--output {out} holds another run: the images changed: 1 new, 0 gone, " in said
    assert f"write to a new folder: --output NEW --reuse {out}; or start afresh with --overwrite" in said


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--reuse", "nowhere"], "--reuse nowhere: expected the --output of a run, with plan.jsonl in it, found none"),
        (["--checksum"], "--checksum: expected --reuse DIR beside it"),
        (["--reuse", "out"], "--reuse out: expected an earlier output, got --output itself"),
    ],
)
def test_wrong_use_is_one_line(
    flags: list[str], words: str, corpus: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(corpus.parent)
    argv = ["--corpus", str(corpus), "--output", "out", "--weights", str(TINY_WEIGHTS), *flags]
    assert main(argv, FakeHandler(), fake_prepare) == 2
    assert words in capsys.readouterr().err
