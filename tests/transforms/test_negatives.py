from __future__ import annotations

import dataclasses
import io
import os
import pickle
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that, equal_to
from numpy.typing import NDArray
from sklearn.neighbors import BallTree

from region_features.negatives.mean_features import decode_mean_features, train_images
from region_features.negatives.neighbours import cpu_product, nearest_neighbours
from region_features.records.stats import STATS_SUFFIX
from tests.samples.buckets import BucketFileSystem
from tests.samples.negatives import FILES, img_id_of, in_caption_order, job_of, load, make_job, means_of, record_of
from tests.samples.records import make_record
from transforms import files, metrics, negatives
from transforms.annotations import read_captions
from transforms.negatives import BuildNegatives, NegativesJob, NegativesResult, build_negatives


def test_both_files_hold_scikit_learns_neighbours_in_caption_order(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    result = build_negatives(job, read_captions)
    ids = in_caption_order(job, tmp_path)
    assert 150 < len(ids) < 190
    sizes = {name: os.path.getsize(os.path.join(job.output, name)) for name in FILES[:2]}
    trained = sum(1 for number in range(300) if number in ids)
    captioned = len(train_images(read_captions(job.captions)))
    assert result == NegativesResult(job.output, trained, 100, 300 - trained, captioned - trained, sizes, skipped=False)
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
    build_negatives(job, read_captions)
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
    build_negatives(job, read_captions)
    data = Path(job.output, "hard_negative.pkl").read_bytes()
    content = Recorder(io.BytesIO(data)).load()
    assert named == {("numpy", "array"), ("numpy", "ndarray")}
    assert content["train_hard_pool"].flags.writeable
    assert data[:2] == b"\x80\x04"  # protocol 4: Python 3.6 reads it


def test_same_input_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(tmp_path)
    build_negatives(job, read_captions)
    monkeypatch.setattr("time.time", lambda: 2e9)
    other = dataclasses.replace(job, output=str(tmp_path / "other"), shards=job.shards[::-1])
    build_negatives(other, read_captions)
    for name in FILES:
        assert Path(job.output, name).read_bytes() == Path(other.output, name).read_bytes()


def test_unchanged_is_skipped_and_changed_is_built_again(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    first = build_negatives(job, read_captions)

    def inodes() -> list[int]:
        return [os.stat(os.path.join(job.output, name)).st_ino for name in FILES]

    def never(_: str) -> Any:
        raise AssertionError("was read")

    before = inodes()
    assert build_negatives(job, never) == dataclasses.replace(first, skipped=True)
    assert inodes() == before
    changed = make_job(tmp_path, seed=1, digest="d2")
    old = load(job.output)["train_hard_pool"]
    assert not build_negatives(changed, read_captions).skipped
    assert (load(job.output)["train_hard_pool"] != old).any()
    assert build_negatives(changed, never).skipped
    smaller = dataclasses.replace(changed, pool=7)
    assert build_negatives(smaller, read_captions).columns == 7
    Path(job.captions).write_text(Path(job.captions).read_text().replace('"val"', '"restval"'))
    assert build_negatives(smaller, read_captions).images > first.images
    for name in FILES:
        with open(os.path.join(job.output, name), "ab") as stream:
            stream.write(b"x")
        assert not build_negatives(smaller, read_captions).skipped
        os.remove(os.path.join(job.output, name))
        assert not build_negatives(smaller, read_captions).skipped
        assert build_negatives(smaller, never).skipped


def test_a_build_that_stops_between_the_files_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(tmp_path)
    build_negatives(job, read_captions)
    changed = dataclasses.replace(job, source_digest="d2")
    publish = files.publish_bytes

    def stops(path: str, chunks: Any) -> int:
        if path.endswith(".npz"):
            raise OSError("no space")
        return publish(path, chunks)

    with monkeypatch.context() as patch:
        patch.setattr(files, "publish_bytes", stops)
        with pytest.raises(OSError, match="no space"):
            build_negatives(changed, read_captions)
    # One of the two files is of the new build: neither digest may pass for whole.
    assert not build_negatives(job, read_captions).skipped


def test_publishes_to_a_remote_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BucketFileSystem, "folder", tmp_path)
    job = make_job(tmp_path / "in")
    remote = dataclasses.replace(job, output="bucket://results")
    build_negatives(job, read_captions)
    assert not build_negatives(remote, read_captions).skipped
    assert build_negatives(remote, read_captions).skipped
    for name in FILES:
        assert (tmp_path / "results" / name).read_bytes() == Path(job.output, name).read_bytes()


def test_fewer_images_than_the_pool_give_fewer_columns(tmp_path: Path) -> None:
    result = build_negatives(make_job(tmp_path, images=40), read_captions)
    assert 1 < result.images < 40 and result.columns == result.images
    pool = load(result.output)["train_hard_pool"]
    np.testing.assert_array_equal(np.sort(pool, axis=1), np.tile(np.arange(result.images), (result.images, 1)))


def test_images_without_boxes_are_zeros(tmp_path: Path) -> None:
    bare = [
        dataclasses.replace(make_record(img_id_of(number), boxes=0, width=width)) for number, width in ((1, 0), (2, 24))
    ]
    full = [record_of(number) for number in (3, 4)]
    job = job_of(tmp_path, [bare[:1], full, bare[1:]], [4, 3, 2, 1])
    means = negatives.read_mean_features(job.shards, train_images(read_captions(job.captions)))
    np.testing.assert_array_equal(means.features, [*means_of([4, 3]), *np.zeros((2, 24), np.float32)])
    assert build_negatives(job, read_captions).images == 4
    assert load(job.output)["train_hard_pool"][2:, :2].tolist() == [[2, 3], [3, 2]]
    only = job_of(tmp_path, [bare], [2, 1])
    build_negatives(only, read_captions)
    assert load(only.output)["train_hard_pool"].tolist() == [[0, 1], [1, 0]]


def test_shards_without_training_images_are_not_opened(tmp_path: Path) -> None:
    job = job_of(tmp_path, [[record_of(1), record_of(2)], [record_of(3), record_of(4), record_of(5)]], [2, 1])
    Path(job.shards[1]).write_bytes(b"not read")
    result = build_negatives(job, read_captions)
    assert (result.images, result.images_left_out, result.captions_left_out) == (2, 3, 0)


def expect_failure(job: NegativesJob, kind: type[Exception], *messages: str) -> None:
    with pytest.raises(kind) as caught:
        build_negatives(job, read_captions)
    for message in messages:
        assert message in str(caught.value)
    assert not os.path.exists(job.output)


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    one, two = record_of(1), record_of(2)
    twice = job_of(tmp_path, [[one, two], [one]], [1, 2])
    expect_failure(twice, ValueError, "expected one record an image", one.img_id, *twice.shards)
    wide = job_of(tmp_path, [[one], [make_record(two.img_id, width=25)]], [1, 2])
    expect_failure(wide, ValueError, wide.shards[1], two.img_id, "region/features", "expected 24 columns", "got 25")
    strangers = job_of(tmp_path, [[one, two]], [8, 9, 10])
    expect_failure(strangers, ValueError, "got none of the 3 that the captions name")
    broken = dataclasses.replace(two, features=np.full((5, 24), np.nan, np.float32))
    job = job_of(tmp_path, [[one, broken]], [1, 2])
    expect_failure(job, ValueError, job.shards[0], two.img_id, "region/features", "expected finite numbers")
    job = job_of(tmp_path, [[one, two]], [1, 2])
    with open(job.shards[0], "r+b") as stream:
        stream.truncate(os.path.getsize(job.shards[0]) - 1)
    expect_failure(job, ValueError, job.shards[0], "record at byte")
    os.remove(job.shards[0] + STATS_SUFFIX)
    expect_failure(job, FileNotFoundError, job.shards[0] + STATS_SUFFIX)
    job = job_of(tmp_path, [[one, two]], [1, 2])
    Path(job.captions).write_text(Path(job.captions).read_text().replace('"cocoid": 1,', f'"cocoid": {2**63},'))
    expect_failure(job, ValueError, one.img_id, "cocoid", str(2**63))


def test_a_foreign_example_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.tfrecord: expected a tf\.train\.Example, got 3 other bytes"):
        decode_mean_features(b"abc", "a.tfrecord")
    with pytest.raises(ValueError, match=r"a\.tfrecord, feature image/source_id: expected a bytes_list, got nothing"):
        decode_mean_features(b"", "a.tfrecord")


def test_a_gpu_that_is_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    job = dataclasses.replace(make_job(tmp_path, images=40), device="cuda")
    expect_failure(job, ValueError, "--device cuda: expected a GPU that torch can use, found none")
    assert negatives.product_on("auto") is negatives.product_on("cpu") is cpu_product
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert negatives.product_on("auto") is negatives.product_on("cuda") is negatives.torch_product


def test_torch_gives_the_same_neighbours() -> None:
    torch = pytest.importorskip("torch")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    random = np.random.default_rng(0)
    points = random.standard_normal((300, 32), dtype=np.float32)
    points[200:] = points[0] + 1e-5 * points[200:]  # too near for float32: these rows are swept again
    before = torch.get_float32_matmul_precision()

    def product_of(centred: NDArray[np.float32]) -> Any:
        return negatives.torch_product(centred, device)

    found = nearest_neighbours(points, 20, product_of, block_rows=64)
    wanted = nearest_neighbours(points, 20, block_rows=64)
    assert found.swept_again >= 100
    np.testing.assert_array_equal(found.index, wanted.index)
    assert torch.get_float32_matmul_precision() == before


def test_transform_builds_and_counts(tmp_path: Path) -> None:
    metrics.reset_local_counts()
    job = make_job(tmp_path)
    wanted = build_negatives(job, read_captions)
    again = dataclasses.replace(job, output=str(tmp_path / "again"))
    with beam.Pipeline() as pipeline:
        results = pipeline | beam.Create([again]) | BuildNegatives(read_captions)
        assert_that(results, equal_to([dataclasses.replace(wanted, output=again.output)]))
    assert metrics.local_counts() == {"negatives_images_read": 300, "negatives_images_compared": wanted.images}
    np.testing.assert_array_equal(load(again.output)["train_hard_pool"], load(job.output)["train_hard_pool"])
