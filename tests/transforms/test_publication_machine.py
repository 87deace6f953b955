"""The publication of a shard as a state machine: attempts, lost replies, crashes and repetitions, in any order.

`test_publication.py` tries every order of two attempts' steps; this draws from the orders of many attempts' single
requests to a bucket, which rename by a copy and a deletion, and fail before or after they are carried out.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from unittest import mock

import google_crc32c
from apache_beam.io.filesystems import FileSystems
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.strategies import integers, sampled_from

from region_features.records.stats import STATS_SUFFIX, ShardStats
from transforms.files import TEMP_PREFIX
from transforms.publication import encode_crc32c, publish_shard, vouches_for

PATH = "gs://b/photos-00000-of-00001.tfrecord"
STATS = ShardStats(PATH.rpartition("/")[2], {}, "", (), {}, (), 0, 9, "", "")
MOST_ALIVE = 3
# What becomes of an attempt's next request.
ANSWERED, REFUSED, REPLY_LOST, CRASHED = "answered", "refused", "reply lost", "crashed"


class Crash(BaseException):
    """The attempt's process died."""


@dataclass
class Attempt:
    """One attempt at the shard, in a thread that stops at each of its requests until `advance` lets it in."""

    number: int
    fate: str = ANSWERED
    raised: BaseException | None = None
    ended: bool = False
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    stopped: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def run(self) -> None:
        try:
            publish_shard(f"gs://b/{TEMP_PREFIX}{self.number}", PATH, stats_of(self.number))
        except (OSError, Crash) as error:
            self.raised = error
        self.ended = True
        self.stopped.release()

    def advance(self, fate: str) -> None:
        """Let the next request have that fate; return when the attempt stands at another one or has ended."""
        self.fate = fate
        self.go.release()
        assert self.stopped.acquire(timeout=20)


@dataclass
class Bucket:
    """Object storage in memory, in the place of Beam's file systems. One attempt runs at a time: `running`."""

    objects: dict[str, bytes] = field(default_factory=dict)
    running: Attempt | None = None

    def request(self, action: Callable[[], Any]) -> Any:
        attempt = self.running
        if attempt is None:  # the test itself
            return action()
        if attempt.fate != CRASHED:  # a dead process cleans nothing up
            attempt.stopped.release()
            assert attempt.go.acquire(timeout=20)
        if attempt.fate == CRASHED:
            raise Crash
        if attempt.fate == REFUSED:
            raise OSError("refused")
        result = action()
        if attempt.fate == REPLY_LOST:
            raise OSError("the reply was lost")
        return result

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def join(self, *parts: str) -> str:
        return "/".join(parts)

    def exists(self, path: str) -> bool:
        return bool(self.request(lambda: path in self.objects))

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            self.request(partial(self.objects.pop, path, None))

    def checksum(self, path: str) -> str | None:
        found = self.request(lambda: self.objects.get(path))
        return None if found is None else crc_of(found)

    def create(self, path: str, *_: Any, **__: Any) -> io.BytesIO:
        bucket = self

        class Upload(io.BytesIO):
            def __exit__(self, kind: Any, *_: Any) -> None:
                if kind is None:
                    bucket.request(lambda: bucket.objects.__setitem__(path, self.getvalue()))

        return Upload()

    def rename(self, sources: list[str], targets: list[str]) -> None:
        for source, target in zip(sources, targets, strict=True):
            self.request(partial(self._copy, source, target))
            self.request(partial(self.objects.pop, source, None))

    def _copy(self, source: str, target: str) -> None:
        self.objects[target] = self.objects[source]


def content_of(number: int) -> bytes:
    return f"attempt {number:02d}".encode()


def stats_of(number: int) -> ShardStats:
    return replace(STATS, sha256=str(number), crc32c=crc_of(content_of(number)))


def crc_of(content: bytes) -> str:
    return encode_crc32c(google_crc32c.value(content))


class Publication(RuleBasedStateMachine):
    """Attempts at one shard, of equal size and other content each, as a runner with retries makes them."""

    def __init__(self) -> None:
        super().__init__()
        self.bucket = Bucket()
        self.attempts: list[Attempt] = []
        self.patch = mock.patch.object(FileSystems, "get_filesystem", lambda path: self.bucket)
        self.patch.start()

    @property
    def alive(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if not attempt.ended]

    def begin(self) -> Attempt:
        attempt = Attempt(len(self.attempts))
        self.bucket.objects[f"gs://b/{TEMP_PREFIX}{attempt.number}"] = content_of(attempt.number)
        self.attempts.append(attempt)
        self.bucket.running = attempt
        threading.Thread(target=attempt.run, daemon=True).start()
        assert attempt.stopped.acquire(timeout=20)
        return attempt

    def advance(self, attempt: Attempt, fate: str) -> None:
        self.bucket.running = attempt
        attempt.advance(fate)

    @precondition(lambda self: len(self.alive) < MOST_ALIVE)
    @rule()
    def an_attempt_begins(self) -> None:
        self.begin()

    @precondition(lambda self: self.alive)
    @rule(which=integers(0, MOST_ALIVE - 1), requests=integers(1, 6))
    def requests_are_answered(self, which: int, requests: int) -> None:
        attempt = self.alive[which % len(self.alive)]
        for _ in range(requests):
            if not attempt.ended:
                self.advance(attempt, ANSWERED)

    @precondition(lambda self: self.alive)
    @rule(which=integers(0, MOST_ALIVE - 1), fate=sampled_from([REFUSED, REPLY_LOST, CRASHED]))
    def a_request_fails(self, which: int, fate: str) -> None:
        self.advance(self.alive[which % len(self.alive)], fate)

    @invariant()
    def stats_that_are_believed_describe_the_shard(self) -> None:
        self.bucket.running = None
        written = self.bucket.objects.get(PATH + STATS_SUFFIX)
        if written is not None and PATH in self.bucket.objects:
            stats = ShardStats.from_json(written, PATH)
            if vouches_for(stats, PATH):
                assert self.bucket.objects[PATH] == content_of(int(stats.sha256))

    @invariant()
    def attempts_that_all_succeeded_left_a_whole_shard(self) -> None:
        if self.attempts and all(attempt.ended and attempt.raised is None for attempt in self.attempts):
            self.check_whole()

    def check_whole(self) -> ShardStats:
        self.bucket.running = None
        stats = ShardStats.from_json(self.bucket.objects[PATH + STATS_SUFFIX], PATH)
        assert vouches_for(stats, PATH)
        return stats

    def teardown(self) -> None:
        """Let every attempt end; one more, alone, must succeed, whatever the others have left."""
        try:
            for attempt in self.alive:
                while not attempt.ended:
                    self.advance(attempt, ANSWERED)
            last = self.begin()
            while not last.ended:
                self.advance(last, ANSWERED)
            assert last.raised is None
            assert self.check_whole() == stats_of(last.number)
            assert f"gs://b/{TEMP_PREFIX}{last.number}" not in self.bucket.objects
        finally:
            self.patch.stop()


TestPublication = Publication.TestCase
TestPublication.settings = settings(max_examples=100, stateful_step_count=30, deadline=None, derandomize=True)
