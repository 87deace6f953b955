"""The shards that stand in a folder are known again by their stats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from region_features.records.failure import Failure
from region_features.records.plan import Plan, ShardKey
from region_features.records.stats import STATS_SUFFIX, ShardStats
from tests.samples.shards import SETTINGS, Element, elements, plan_of, run_bundle
from transforms.published import read_published
from transforms.shards import _WriteShard


@pytest.fixture
def published(tmp_path: Path) -> Iterator[Path]:
    """A folder with two shards."""
    for number in (0, 1):
        run_bundle(_WriteShard(str(tmp_path), SETTINGS), elements(number=number, of=2))
    yield tmp_path


def two_shards() -> list[Element]:
    return [*elements(number=0, of=2), *elements(number=1, of=2)]


def numbers(found: dict[ShardKey, ShardStats]) -> list[int]:
    return [key.number for key in found]


def test_published_shards_are_known_again(published: Path) -> None:
    found = read_published(str(published), plan_of(two_shards()))
    assert numbers(found) == [0, 1]
    assert [stats.shard for stats in found.values()] == [key.filename for key in found]
    assert read_published(str(published / "missing"), plan_of(two_shards())) == {}
    assert read_published(str(published), Plan({}, {})) == {}


def test_what_does_not_fit_the_plan_counts_as_missing(published: Path) -> None:
    folder = str(published)
    assert read_published(folder, plan_of(two_shards(), min_boxes=10)) == {}
    assert read_published(folder, plan_of(elements(number=0, of=3))) == {}
    changed = two_shards()
    item, result = changed[5]
    ref = item.image.ref._replace(size=item.image.ref.size + 1)
    changed[5] = (replace(item, image=replace(item.image, ref=ref)), result)
    assert numbers(read_published(folder, plan_of(changed))) == [0]


def test_a_shard_that_is_cut_or_has_no_stats_counts_as_missing(published: Path) -> None:
    first, second = sorted(published.glob("*.tfrecord"))
    first.write_bytes(first.read_bytes()[:-1])
    assert numbers(read_published(str(published), plan_of(two_shards()))) == [1]
    (published / f"{second.name}{STATS_SUFFIX}").unlink()
    assert read_published(str(published), plan_of(two_shards())) == {}


def test_stats_come_back_as_they_were() -> None:
    failure = Failure("gs://b/ä b\u2028%.jpg", 'quo"te', "read", "503 😀")
    stats = ShardStats(
        "x.tfrecord",
        {"a": 0.1, "b": None},
        "digest",
        ("a", "ä"),
        {"a": "sha a", 'quo"te': "sha of it"},
        (failure,),
        1,
        12,
        "sha",
        "crc",
    )
    data = stats.to_json()
    assert ShardStats.from_json(data, "stats") == stats
    assert ShardStats.from_json(data, "stats").to_json() == data
    assert b'"counts": {\n  "written": 2,\n  "failed": 1\n }' in data
    empty = ShardStats("x.tfrecord", {}, "", (), {}, (), 0, 0, "", "")
    assert ShardStats.from_json(empty.to_json(), "stats") == empty


WRONG_TYPES = (
    (b'"image_sha256": {}', b'"image_sha256": []'),
    (b'"image_sha256": {}', b'"image_sha256": {"a": 7}'),
    (b'"settings": {}', b'"settings": []'),
    (b'"num_bytes": 0', b'"num_bytes": "0"'),
    (b'"ids": []', b'"ids": [[]]'),
    (b'"crc32c": ""', b'"crc32c": null'),
)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"7",
        b'{"counts": {}}',
        b'{"counts": {}, "ids": [], "failures": []}',
        b'{"counts": {}, "ids": [], "failures": [{"uri": "a"}]}',
        b'{"counts": {}, "ids": null, "failures": []}',
        ShardStats("x", {}, "", (), {}, (), 0, 0, "", "").to_json()[:-10],
        ShardStats("x", {}, "", (), {}, (), 0, 0, "", "").to_json().replace(b'"shard"', b'"shart"'),
        *(ShardStats("x", {}, "", (), {}, (), 0, 0, "", "").to_json().replace(*change) for change in WRONG_TYPES),
        b"\xff",
    ],
)
def test_damaged_stats_are_named_with_a_remedy(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^out/x\.stats\.json: expected a shard's stats.*delete it"):
        ShardStats.from_json(data, "out/x.stats.json")


def test_damaged_stats_in_the_folder_are_named(published: Path) -> None:
    stats = sorted(published.glob("*.json"))[0]
    stats.write_text("{")
    with pytest.raises(ValueError, match=stats.name):
        read_published(str(published), plan_of(two_shards()))
