"""Repeating a request while a service is overloaded or out of reach, without silence and not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from beam_pipeline.dataflow.errors import describe_error, is_passing, is_unreachable

T = TypeVar("T")
_SAY_AFTER_SECONDS = 30.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 10.0


@dataclass
class Patience:
    """How long a service may fail to answer.

    Attributes:
        whom: names the service.
        seconds: it is given while it answers that it is busy or broken.
        unreachable_seconds: it is given while there is nobody to answer.
        say: prints a line.
        also: HTTP statuses that pass too.
        clock, sleep: of `time`.
    """

    whom: str
    seconds: float
    unreachable_seconds: float
    say: Callable[[str], None]
    also: tuple[int, ...] = ()
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def call(self, request: Callable[[], T]) -> T:
        """Return what the request returns.

        Raises:
            Exception: what the last attempt raised, where asking again is of no use or the time is over.
        """
        began, pause, said = self.clock(), _FIRST_PAUSE, False
        while True:
            try:
                return request()
            except Exception as error:
                waited = self.clock() - began
                limit = self.unreachable_seconds if is_unreachable(error) else self.seconds
                is_hopeless = not is_passing(error) and getattr(error, "code", None) not in self.also
                if is_hopeless or waited + pause > limit:
                    raise
                if waited >= _SAY_AFTER_SECONDS and not said:
                    said = True
                    reason = describe_error(error)
                    self.say(f"note: {self.whom} has not answered for {waited:.0f} s ({reason}); asking on")
            self.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
