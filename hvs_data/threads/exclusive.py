"""One thread at a time for any object: it need not be hashable, take weak references, or know of its lock."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hvs_data.threads.stopping import go_on

# Seconds between two looks at whether a thread that waits for its turn is to go on at all.
PATROL = 0.1


class _Turn:
    """The lock of an object, and how many threads hold it or wait for it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.users = 0


# By the object's id, for as long as a thread uses the object and so keeps it alive: no id is taken for another object's.
_turns: dict[int, _Turn] = {}
_table = threading.Lock()


@contextmanager
def one_at_a_time(*objects: object) -> Iterator[None]:
    """Wait until no other thread is in here with one of these objects. A thread that has its turn may take it again.

    Raises:
        Stopped: the calling thread is not to go on (:mod:`hvs_data.threads.stopping`) when its turn comes, or while it waits.
    """
    keys = sorted({id(thing) for thing in objects})  # in one order, so that no two threads wait for each other
    with _table:
        turns = [_turns.setdefault(key, _Turn()) for key in keys]
        for turn in turns:
            turn.users += 1
    taken = 0
    try:
        for turn in turns:
            while not turn.lock.acquire(timeout=PATROL):
                go_on()
            taken += 1
        go_on()
        yield
    finally:
        for turn in turns[:taken]:
            turn.lock.release()
        with _table:
            for key, turn in zip(keys, turns, strict=True):
                turn.users -= 1
                if not turn.users and _turns.get(key) is turn:
                    del _turns[key]


def _open_all() -> None:
    """A forked process has none of the threads that would end their turns."""
    global _table
    _table = threading.Lock()
    _turns.clear()


def after_fork(renew: Callable[[], None]) -> None:
    """Have a function called in every process that is forked from this one, which has none of the threads that hold locks here."""
    if hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(after_in_child=renew)


after_fork(_open_all)
