"""A line on the terminal that tells how far a command is, and how much time is left."""

from __future__ import annotations

import sys
import time
from types import TracebackType


class Progress:
    """Use it in a ``with`` statement.

    Args:
        what: is counted, such as "images".
        total: how many there are.
    """

    def __init__(self, what: str, total: int):
        self._what, self._total = what, total
        self._start = self._told = time.monotonic()
        self._before: int | None = None  # what an earlier run had done
        self._on_terminal = sys.stderr.isatty()
        # a log file gets a line now and then
        self._every = 0.2 if self._on_terminal else 10.0

    def update(self, done: int) -> None:
        """Tell that so many are done by now."""
        now = time.monotonic()
        if self._before is None:
            self._before = done - 1
        if now - self._told >= self._every:
            self._told = now
            speed = max(1, done - self._before) / (now - self._start)
            line = f"{done:,} of {self._total:,} {self._what}, {speed:,.0f} a second, {_in_words((self._total - done) / speed)} left"
            print(f"\r\033[K{line}" if self._on_terminal else line, end="" if self._on_terminal else "\n", file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._on_terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _in_words(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
