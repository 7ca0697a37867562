"""Locks that a forked process finds open, whoever held them at the time of the fork."""

from __future__ import annotations

import threading
import weakref
from typing import Any

from hvs_data.threads.exclusive import after_fork

_locks: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()


class ForkSafeLock:
    """A ``threading.Lock`` as a context manager that is made anew in a forked process, which has none of the threads to release it.

    For data that are whole between any two steps of the interpreter.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: Any) -> None:
        self._lock.release()

    def renew(self) -> None:
        self._lock = threading.Lock()


def _renew_all() -> None:
    for lock in list(_locks):
        lock.renew()


after_fork(_renew_all)
