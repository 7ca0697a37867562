"""Whether the work of the calling thread has been broken off: what takes long asks now and then."""

from __future__ import annotations

import threading
import time

_thread = threading.local()


class Stopped(BaseException):
    """What the thread works for has ended. No ``Exception``, since no handler of failures has anything to do with it."""


def stop_at(event: threading.Event) -> None:
    """From now on the calling thread's work is broken off once the event is set. Threads that never call this go on for ever."""
    _thread.event = event


def go_on() -> None:
    """Nothing, while the calling thread is to go on.

    Raises:
        Stopped: it is not.
    """
    event = getattr(_thread, "event", None)
    if event is not None and event.is_set():
        raise Stopped


def sleep(seconds: float) -> None:
    """As ``time.sleep``, but ends at once with :class:`Stopped` when the calling thread is not to go on."""
    event = getattr(_thread, "event", None)
    if event is None:
        time.sleep(seconds)
    elif event.wait(seconds):
        raise Stopped
