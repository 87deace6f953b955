"""Attempts at one shard that publish at the same time: whatever the order of their steps, stats tell the truth."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import google_crc32c
import pytest

from region_features.records.stats import STATS_SUFFIX, ShardStats
from tests.samples.shards import SETTINGS, elements, plan_of, run_bundle
from transforms import files, publication
from transforms.publication import encode_crc32c, publish_shard, vouches_for
from transforms.published import read_published
from transforms.shards import _WriteShard

NAME = "photos-00000-of-00001.tfrecord"
STEPS = ("delete", "rename", "stats", "compare")
STATS = ShardStats(NAME, {}, "", (), {}, (), 0, 9, "", "")


class Crashed(BaseException):
    """The attempt's process died."""


@dataclass
class Bucket:
    """Object storage in memory; each request of an attempt waits until the schedule lets it in."""

    schedule: list[int]
    crash: tuple[int, int]  # attempt, and how many of its requests are answered
    objects: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._turn = threading.Condition()
        self._answered = [0, 0]
        self._ended = [False, False]

    def request(self, attempt: int, action: Callable[[], Any]) -> Any:
        with self._turn:
            self._turn.wait_for(lambda: self._next() == attempt, 20)
            if self._answered[attempt] == self.crash[1] and attempt == self.crash[0]:
                raise Crashed
            self._answered[attempt] += 1
            self.schedule.remove(attempt)
            result = action()
            self._turn.notify_all()
            return result

    def end(self, attempt: int) -> None:
        with self._turn:
            self._ended[attempt] = True
            self._turn.notify_all()

    def _next(self) -> int | None:
        return next((attempt for attempt in self.schedule if not self._ended[attempt]), None)


def run_both(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
    """Publish two attempts at a shard, of the same size and other content; return what each raised."""
    me = threading.local()
    raised: list[BaseException | None] = [None, None]

    def request(action: Callable[[], Any]) -> Any:
        return bucket.request(me.attempt, action)

    def put(path: str, chunks: list[bytes]) -> int:
        request(lambda: bucket.objects.__setitem__(path, chunks[0]))
        return 0

    def rename(sources: list[str], targets: list[str]) -> None:
        request(lambda: bucket.objects.__setitem__(targets[0], bucket.objects.pop(sources[0])))

    def crc32c(path: str) -> str:
        return str(request(lambda: crc_of(bucket.objects[path])))

    def publish(attempt: int) -> None:
        me.attempt = attempt
        content = f"attempt {attempt}".encode()
        bucket.objects[f"gs://b/temporary-{attempt}"] = content
        stats = replace(STATS, crc32c=crc_of(content))
        try:
            publish_shard(f"gs://b/temporary-{attempt}", f"gs://b/{NAME}", stats)
        except (OSError, Crashed) as error:
            raised[attempt] = error
        finally:
            bucket.end(attempt)

    with monkeypatch.context() as patch:
        patch.setattr(files, "delete_files", lambda paths: request(lambda: bucket.objects.pop(paths[0], None)))
        patch.setattr(files, "publish_bytes", put)
        patch.setattr(publication.FileSystems, "rename", rename)
        patch.setattr(publication, "stored_crc32c", crc32c)
        threads = [threading.Thread(target=publish, args=(attempt,)) for attempt in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
    return raised


def crc_of(content: bytes) -> str:
    return encode_crc32c(google_crc32c.value(content))


def schedules() -> Iterator[list[int]]:
    """Every order of the steps of two attempts."""
    for places in itertools.combinations(range(2 * len(STEPS)), len(STEPS)):
        yield [0 if place in places else 1 for place in range(2 * len(STEPS))]


def test_whatever_the_order_of_two_attempts_stats_describe_the_shard_that_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nobody, crashes = (0, len(STEPS)), [(0, step) for step in range(len(STEPS))]
    runs = [(schedule, crash) for schedule in schedules() for crash in (nobody, *crashes)]
    assert len(runs) == 70 * 5
    believed = 0
    for schedule, crash in runs:
        bucket = Bucket(list(schedule), crash)
        raised = run_both(bucket, monkeypatch)
        shard, stats = bucket.objects.get(f"gs://b/{NAME}", b""), bucket.objects.get(f"gs://b/{NAME}{STATS_SUFFIX}")
        whole = stats is not None and ShardStats.from_json(stats, "s").crc32c == crc_of(shard)
        believed += whole
        # An attempt that came last and was told that all is well has left a whole shard.
        last = schedule[-1]
        if raised[last] is None and raised[1 - last] is None:
            assert whole, (schedule, crash)
    assert believed > len(runs) // 2


def test_a_shard_that_its_stats_do_not_describe_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = elements()
    run_bundle(_WriteShard(str(tmp_path), SETTINGS), made)
    assert len(read_published(str(tmp_path), plan_of(made))) == 1
    monkeypatch.setattr(publication, "stored_crc32c", lambda path: "another")
    assert read_published(str(tmp_path), plan_of(made)) == {}
    assert not vouches_for(STATS, "gs://b/shard")


def test_attempts_on_a_local_disk_publish_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most = [0], [0]
    delete = files.delete_files

    def slowly(paths: list[str]) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        threading.Event().wait(0.05)
        delete(paths)
        inside[0] -= 1

    monkeypatch.setattr(files, "delete_files", slowly)
    threads = []
    for attempt in range(4):
        temporary = tmp_path / f"temporary-{attempt}"
        temporary.write_bytes(b"attempt %d" % attempt)
        arguments = (str(temporary), str(tmp_path / NAME), STATS)
        threads.append(threading.Thread(target=publish_shard, args=arguments))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert most == [1] and set(os.listdir(tmp_path)) == {NAME, NAME + STATS_SUFFIX}
