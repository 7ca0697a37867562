"""Waiting for threads without waiting for ever: what each of them is busy with, and for how long."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, wait
from typing import Any

from hvs_data.errors import StalledError
from hvs_data.loaders.crew import Crew
from hvs_data.sources.base import Source
from hvs_data.threads.stopping import go_on

# Seconds between two looks at whether the threads are still alive.
PATROL = 1.0
# Seconds between two looks of a thread that waits for others at whether it is to go on.
GLANCE = 0.1
# Samples that an error names; there are as many as threads.
MOST_NAMED = 8


def result_of(future: Future[Any]) -> Any:
    """What a task of another crew gives, for a thread of a crew that may be closed meanwhile.

    Raises:
        Stopped: it was closed.
    """
    while not future.done():
        go_on()
        wait([future], timeout=GLANCE)
    return future.result()


class Watch:
    """Waits for the tasks of a crew that reads samples, for a limited time.

    Args:
        crew: whose tasks are waited for.
        source: of the samples.
        timeout: seconds to wait for one batch; None = for ever.
    """

    def __init__(self, crew: Crew, source: Source, timeout: float | None):
        self.stalled = False
        self._crew = crew
        self._source = source
        self._timeout = timeout
        # by thread; each one writes its own entry only
        self._busy: dict[int, tuple[int, float]] = {}

    def reads(self, index: int) -> None:
        """The calling thread begins to read or decode a sample.

        Raises:
            Stopped: nobody wants it any more.
        """
        go_on()
        self._busy[threading.get_ident()] = (index, time.monotonic())

    def has_read(self) -> None:
        """The calling thread has its sample."""
        self._busy.pop(threading.get_ident(), None)

    def results(self, futures: Sequence[Future[Any]]) -> list[Any]:
        """What these tasks give, or the error that one of them raises.

        Raises:
            StalledError: they are not done within the timeout, or a thread of the crew has died.
            ForkError: in another process than the crew's.
        """
        self._crew.check_process()
        begun = time.monotonic()
        return [self._result(future, begun) for future in futures]

    def _result(self, future: Future[Any], begun: float) -> Any:
        while not future.done():
            left = PATROL if self._timeout is None else begun + self._timeout - time.monotonic()
            if left <= 0:
                raise self._stalled(f"expected a batch within {self._timeout:g} s, got none", "or pass a larger timeout (None = no limit)")
            wait([future], timeout=min(left, PATROL))
            dead = self._crew.dead()
            if dead and not future.done():
                raise self._stalled(
                    f"expected the loader's threads to be alive, got an end of {', '.join(dead)}", "and begin a new iteration"
                )
        return future.result()

    def _stalled(self, what: str, remedy: str) -> StalledError:
        self.stalled = True
        now = time.monotonic()
        busy = sorted(self._busy.copy().values(), key=lambda entry: entry[1])
        reading = [f"{self._name(index)} (index {index}, for {now - since:.1f} s)" for index, since in busy[:MOST_NAMED]]
        more = f" and {len(busy) - MOST_NAMED} more" if len(busy) > MOST_NAMED else ""
        at_work = f"being read: {', '.join(reading)}{more}" if reading else "no sample is being read"
        return StalledError(f"{what}; {at_work}; see to the storage of these, {remedy}")

    def _name(self, index: int) -> str:
        try:
            return repr(self._source.name_of(index))
        except Exception:
            return "a sample"  # of a source that is out of order itself
