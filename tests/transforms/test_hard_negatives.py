from __future__ import annotations

import dataclasses
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.neighbors import BallTree

from region_features.exports import hard_negatives
from region_features.negatives.mean_features import decode_mean_features, train_images
from region_features.negatives.neighbours import cpu_product, nearest_neighbours
from region_features.records.stats import STATS_SUFFIX
from tests.samples.buckets import BucketFileSystem
from tests.samples.exports import build, ignore, is_current
from tests.samples.negatives import FILES, img_id_of, in_caption_order, job_of, load, make_job, means_of, record_of
from tests.samples.pinned import pin
from tests.samples.records import make_record
from transforms.annotations import read_captions
from transforms.exports import ExportJob, build_export, open_sources


def test_both_files_hold_scikit_learns_neighbours_in_caption_order(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    result = build(job)
    ids = in_caption_order(job, tmp_path)
    assert 150 < len(ids) < 190
    sizes = {name: os.path.getsize(os.path.join(job.output, name)) for name in FILES[:2]}
    trained = sum(1 for number in range(300) if number in ids)
    assert job.captions
    captioned = len(train_images((image.img_id, image) for image in read_captions(job.captions)))
    assert result == {
        "negatives_pool": 100,
        "images": trained,
        "columns": 100,
        "images_left_out": 300 - trained,
        "captions_left_out": captioned - trained,
        "files": sizes,
        "sets": ["train2014"],
        "source_digest": "d1",
    }
    points = means_of(ids)
    tree = BallTree(points).query(points, k=100, return_distance=False)
    content = load(job.output)
    assert list(content) == ["train_hard_pool", "train_image_list"]
    assert type(content["train_image_list"]) is list and {type(number) for number in content["train_image_list"]} == {
        int
    }
    assert content["train_image_list"] == ids
    pool = content["train_hard_pool"]
    assert (pool.dtype, pool.shape) == (np.int64, (len(ids), 100))
    np.testing.assert_array_equal(pool, tree)
    np.testing.assert_array_equal(pool[:, 0], np.arange(len(ids)))
    with np.load(os.path.join(job.output, "hard_negative.npz"), allow_pickle=False) as arrays:
        assert sorted(arrays) == ["train_hard_pool", "train_image_list"]
        np.testing.assert_array_equal(arrays["train_hard_pool"], pool)
        np.testing.assert_array_equal(arrays["train_image_list"], ids)
        assert arrays["train_image_list"].dtype == np.int64
    assert sorted(os.listdir(job.output)) == sorted(FILES)


def test_serves_the_consumer(tmp_path: Path) -> None:
    """VOLTA and ViLBERT: an image's row, an entry but the first at random, and that image's coco id."""
    job = make_job(tmp_path)
    build(job)
    content = load(job.output)
    pool, image_list = content["train_hard_pool"], content["train_image_list"]
    row_of = {image: row for row, image in enumerate(image_list)}
    random = np.random.default_rng(0)
    points = means_of(image_list)
    for image in random.choice(image_list, 40):
        row = pool[row_of[image]]
        negative = image_list[int(row[random.integers(1, len(row))])]
        assert negative != image and type(negative) is int
        distances = np.linalg.norm(points - points[row_of[image]], axis=1)
        assert distances[row_of[negative]] <= np.sort(distances)[99] * 1.001


def test_the_pickle_names_public_names_of_numpy_only(tmp_path: Path) -> None:
    """numpy 2 moved the private ones that it pickles arrays by, and the consumers' numpy 1 does not find them."""
    named = set()

    class Recorder(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            named.add((module, name))
            return super().find_class(module, name)

    job = make_job(tmp_path, images=40)
    build(job)
    data = Path(job.output, "hard_negative.pkl").read_bytes()
    content = Recorder(io.BytesIO(data)).load()
    assert named == {("numpy", "array"), ("numpy", "ndarray")}
    assert content["train_hard_pool"].flags.writeable
    assert data[:2] == b"\x80\x04"  # protocol 4: Python 3.6 reads it


def test_same_input_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(tmp_path)
    build(job)
    monkeypatch.setattr("time.time", lambda: 2e9)
    other = dataclasses.replace(
        job, output=str(tmp_path / "other"), shards={"train2014": job.shards["train2014"][::-1]}
    )
    build(other)
    for name in FILES:
        assert Path(job.output, name).read_bytes() == Path(other.output, name).read_bytes()


def with_pool(job: ExportJob, pool: int, device: str = "cpu") -> ExportJob:
    return dataclasses.replace(job, export=hard_negatives.HardNegativesExport(pool, device))


def test_current_files_are_left_alone_and_any_change_builds_them_anew(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    first = build(job)
    assert is_current(job) and build(job) == first
    old = load(job.output)["train_hard_pool"]
    changed = make_job(tmp_path, seed=1, digest="d2")
    assert not is_current(changed)
    assert (load(job.output)["train_hard_pool"] != old).any()
    assert is_current(changed)
    assert is_current(with_pool(changed, 100, "auto"))  # the result does not depend on the device
    smaller = with_pool(changed, 7)
    assert not is_current(smaller)
    assert build(smaller)["columns"] == 7
    assert job.captions
    captions = Path(job.captions.uri)
    captions.write_text(captions.read_text().replace('"val"', '"restval"'))
    smaller = dataclasses.replace(smaller, captions=pin(captions))
    assert not is_current(smaller)
    assert build(smaller)["images"] > first["images"]
    for name in FILES[:2]:
        with open(os.path.join(job.output, name), "ab") as stream:
            stream.write(b"x")
        assert not is_current(smaller)
    os.remove(os.path.join(job.output, FILES[2]))
    assert not is_current(smaller)
    assert is_current(smaller)


def test_publishes_to_a_remote_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BucketFileSystem, "folder", tmp_path)
    job = make_job(tmp_path / "in")
    remote = dataclasses.replace(job, output="bucket://results")
    assert build(job) == build(remote)
    for name in FILES:
        assert (tmp_path / "results" / name).read_bytes() == Path(job.output, name).read_bytes()


def test_fewer_images_than_the_pool_give_fewer_columns(tmp_path: Path) -> None:
    job = make_job(tmp_path, images=40)
    row = build(job)
    images = row["images"]
    assert 1 < images < 40 and row["columns"] == images
    pool = load(job.output)["train_hard_pool"]
    np.testing.assert_array_equal(np.sort(pool, axis=1), np.tile(np.arange(images), (images, 1)))


def test_images_without_boxes_are_zeros(tmp_path: Path) -> None:
    bare = [
        dataclasses.replace(make_record(img_id_of(number), boxes=0, width=width)) for number, width in ((1, 0), (2, 24))
    ]
    full = [record_of(number) for number in (3, 4)]
    job = job_of(tmp_path, [bare[:1], full, bare[1:]], [4, 3, 2, 1])
    assert job.captions
    images = train_images((image.img_id, image) for image in read_captions(job.captions))
    means = hard_negatives.read_mean_features(open_sources(job), images, ignore)
    np.testing.assert_array_equal(means.features, [*means_of([4, 3]), *np.zeros((2, 24), np.float32)])
    assert build(job)["images"] == 4
    assert load(job.output)["train_hard_pool"][2:, :2].tolist() == [[2, 3], [3, 2]]
    only = job_of(tmp_path, [bare], [2, 1])
    build(only)
    assert load(only.output)["train_hard_pool"].tolist() == [[0, 1], [1, 0]]


def test_shards_without_training_images_are_not_opened(tmp_path: Path) -> None:
    job = job_of(tmp_path, [[record_of(1), record_of(2)], [record_of(3), record_of(4), record_of(5)]], [2, 1])
    Path(job.shards["train2014"][1]).write_bytes(b"not read")
    result = build(job)
    assert (result["images"], result["images_left_out"], result["captions_left_out"]) == (2, 3, 0)


def expect_failure(job: ExportJob, kind: type[Exception], *messages: str) -> None:
    with pytest.raises(kind) as caught:
        build(job)
    for message in messages:
        assert message in str(caught.value)
    assert not os.path.exists(job.output) or os.listdir(job.output) == []


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    one, two = record_of(1), record_of(2)
    twice = job_of(tmp_path, [[one, two], [one]], [1, 2])
    expect_failure(twice, ValueError, "expected one record an image", one.img_id, *twice.shards["train2014"])
    wide = job_of(tmp_path, [[one], [make_record(two.img_id, width=25)]], [1, 2])
    expect_failure(
        wide, ValueError, wide.shards["train2014"][1], two.img_id, "region/features", "expected 24 columns", "got 25"
    )
    strangers = job_of(tmp_path, [[one, two]], [8, 9, 10])
    expect_failure(strangers, ValueError, "got none of the 3 that the captions name")
    broken = dataclasses.replace(two, features=np.full((5, 24), np.nan, np.float32))
    job = job_of(tmp_path, [[one, broken]], [1, 2])
    expect_failure(
        job, ValueError, job.shards["train2014"][0], two.img_id, "region/features", "expected finite numbers"
    )
    job = job_of(tmp_path, [[one, two]], [1, 2])
    with open(job.shards["train2014"][0], "r+b") as stream:
        stream.truncate(os.path.getsize(job.shards["train2014"][0]) - 1)
    expect_failure(job, ValueError, job.shards["train2014"][0], "record at byte")
    assert not os.path.exists(job.shards["train2014"][0] + STATS_SUFFIX)  # a rerun makes the shard again
    expect_failure(job, FileNotFoundError, job.shards["train2014"][0] + STATS_SUFFIX)


def test_a_foreign_example_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.tfrecord: expected a tf\.train\.Example, got 3 other bytes"):
        decode_mean_features(b"abc", "a.tfrecord")
    with pytest.raises(ValueError, match=r"a\.tfrecord, feature image/source_id: expected a bytes_list, got nothing"):
        decode_mean_features(b"", "a.tfrecord")


def test_a_gpu_that_is_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    job = with_pool(make_job(tmp_path, images=40), 100, "cuda")
    expect_failure(job, ValueError, "--device cuda: expected a GPU that torch can use, found none")
    assert hard_negatives.product_on("auto") is hard_negatives.product_on("cpu") is cpu_product
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert hard_negatives.product_on("auto") is hard_negatives.product_on("cuda") is hard_negatives.torch_product


def test_torch_gives_the_same_neighbours() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    random = np.random.default_rng(0)
    points = random.standard_normal((300, 32), dtype=np.float32)
    points[200:] = points[0] + 1e-5 * points[200:]  # too near for float32: these rows are swept again
    before = torch.get_float32_matmul_precision()

    def product_of(centred: NDArray[np.float32]) -> Any:
        return hard_negatives.torch_product(centred, device)

    found = nearest_neighbours(points, 20, product_of, block_rows=64)
    wanted = nearest_neighbours(points, 20, block_rows=64)
    assert found.swept_again >= 100
    np.testing.assert_array_equal(found.index, wanted.index)
    assert torch.get_float32_matmul_precision() == before


def test_progress_counts_the_images_that_are_read_and_compared(tmp_path: Path) -> None:
    progress: dict[str, int] = {}
    row = build_export(make_job(tmp_path), progress.__setitem__).row
    assert progress == {"images_read": 300, "images_compared": row["images"]}
