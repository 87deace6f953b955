"""How one phase of the work is shown: a bar on a terminal or in a notebook, a line every 30 seconds in a log."""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from tqdm import tqdm

from beam_pipeline.progress.console import LOG, NOTEBOOK, Console, console

BAR_SECONDS, LINE_SECONDS = 0.5, 30.0


class State(NamedTuple):
    """How far a phase is.

    Attributes:
        done: how much is there, earlier attempts included.
        total: of the whole, None where that is not known.
        rate: units a second, 0 while it is not known.
        seconds_left: how long the rest will take, None while that is not known.
        note: what else is to be said.
    """

    done: int
    total: int | None = None
    rate: float = 0.0
    seconds_left: float | None = None
    note: str = ""


class Meter:
    """Shows one phase; --log_json gets its begin, its end, and how far it is every 30 seconds.

    Args:
        what: names the phase.
        unit: of what is counted; `B` is scaled to kB, MB and GB, and nothing is counted where it is empty.
        target: where it is shown; None for the console of this process.
        clock: returns seconds.
    """

    def __init__(
        self, what: str, unit: str, target: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.what, self._unit, self._clock = what, unit, clock
        self._console = target or console()
        self._kind = self._console.kind
        self._bar: Any = None
        self._began = self._shown = self._logged = clock()
        if self._kind == LOG:  # short phases must not keep a log silent for longer
            self._shown = self._console.latest_line = self._console.latest_line or self._began
        self._is_shown, self._line = False, ""
        self._console.event("phase_begin", phase=what)

    @property
    def seconds(self) -> float:
        """How long a state stays before the next one is shown."""
        return LINE_SECONDS if self._kind == LOG else BAR_SECONDS

    def offer(self, state: State) -> None:
        """Show a state if the last one was shown long enough."""
        now = self._clock()
        if now - self._shown >= self.seconds:
            self.show(state)
        if now - self._logged >= LINE_SECONDS:
            self._logged = now
            self._console.event("progress", phase=self.what, **self._fields(state))

    def show(self, state: State) -> None:
        """Show a state: over the last one on a terminal or in a notebook, as a new line elsewhere."""
        self._shown, self._is_shown = self._clock(), True
        if self._kind == LOG:
            self._console.latest_line = self._shown
            self._line = self.text(state)
            self._console.line(self._line)
        elif self._kind == NOTEBOOK and not self._console.quiet and importlib.util.find_spec("ipywidgets"):
            self._show_widget(state)
        else:
            self._console.draw(self.text(state))

    def close(self, state: State) -> None:
        """End the phase: leave its last state where anything of it was shown."""
        if self._is_shown:
            if self._kind != LOG or self.text(state) != self._line:
                self.show(state)
            if self._bar is not None:
                self._bar.close()
            elif self._kind != LOG:
                self._console.leave_bar()
        seconds = round(self._clock() - self._began, 3)
        self._console.event("phase_end", phase=self.what, **self._fields(state), seconds=seconds)

    def text(self, state: State) -> str:
        """Return what is shown of a state."""
        numbers = self._numbers(state)
        if self._kind == LOG:
            return f"{self.what}: {numbers}"
        # A text as wide as the terminal would wrap, and \r then returns to the wrong line.
        columns = shutil.get_terminal_size().columns - 1
        if not state.total:
            return f"{self.what}: {numbers}"[:columns]
        return tqdm.format_meter(
            n=state.done,
            total=state.total,
            elapsed=0.0,
            ncols=columns,
            prefix=f"{self.what}: ",
            ascii=" #",
            bar_format="{desc}{percentage:3.0f}%|{bar}| " + numbers.replace("{", "{{").replace("}", "}}"),
        )

    def _numbers(self, state: State) -> str:
        if not self._unit:
            return f"for {tqdm.format_interval(self._clock() - self._began)}{state.note}"
        if self._unit == "B":
            done, rate = tqdm.format_sizeof(state.done), f"{tqdm.format_sizeof(state.rate)}B/s"
            total = "" if state.total is None else f" of {tqdm.format_sizeof(state.total)}"
        else:
            done, rate = str(state.done), f"{state.rate:.2f}{self._unit}/s"
            total = "" if state.total is None else f" of {state.total}"
        parts = [f"{done}{total}{self._unit}"]
        if state.rate:
            parts.append(rate)
        if state.seconds_left is not None and state.total != state.done:
            parts.append(f"{tqdm.format_interval(state.seconds_left)} left")
        return ", ".join(parts) + state.note

    def _fields(self, state: State) -> dict[str, Any]:
        left = None if state.seconds_left is None else round(state.seconds_left, 1)
        fields = {"done": state.done, "total": state.total, "unit": self._unit.strip(), "rate": round(state.rate, 3)}
        return {**fields, "seconds_left": left} if self._unit else {}

    def _show_widget(self, state: State) -> None:
        if self._bar is None:
            from tqdm.notebook import tqdm as notebook_tqdm

            self._bar = notebook_tqdm(total=state.total, desc=self.what, leave=True, file=self._console.stream)
        self._bar.n = state.done
        self._bar.bar_format = "{desc}: {bar} " + self._numbers(state).replace("{", "{{").replace("}", "}}")
        self._bar.refresh()
