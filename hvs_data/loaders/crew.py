"""Threads that work for one iteration of a loader."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

_open_crews: weakref.WeakSet[Crew] = weakref.WeakSet()


class Crew:
    """Worker threads and their queue: urgent tasks first, then in the order of submission.

    ``concurrent.futures.ThreadPoolExecutor`` has one queue only, and at the interpreter's exit it works it off.

    Args:
        threads: at least 1.
        name: prefix of the threads' names.
    """

    def __init__(self, threads: int, name: str = "hvs"):
        self._urgent: deque[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = deque()
        self._waiting: deque[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = deque()
        self._ready = threading.Condition()
        self._closed = False
        # daemons, since the interpreter waits for other threads before anything could tell them to stop
        self._threads = [threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(threads)]
        _open_crews.add(self)
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[..., Any], *args: Any, urgent: bool = False) -> Future[Any]:
        """Have a function called. What it raises, of whatever kind, is raised by the future's ``result``."""
        future: Future[Any] = Future()
        with self._ready:
            if self._closed:
                raise RuntimeError("the crew is closed; start another one")
            (self._urgent if urgent else self._waiting).append((future, function, args))
            self._ready.notify()
        return future

    def close(self) -> None:
        """Cancel what has not begun, wait for what has, end the threads. May be called more than once."""
        with self._ready:
            self._closed = True
            for future, _, _ in (*self._urgent, *self._waiting):
                future.cancel()
            self._urgent.clear()
            self._waiting.clear()
            self._ready.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():  # a generator may be collected, and so closed, by any thread
                thread.join()

    def _work(self) -> None:
        while (task := self._next_task()) is not None:
            future, function, args = task
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*args))
                except BaseException as error:
                    future.set_exception(error)
            del task, future, function, args  # nothing is kept alive while waiting

    def _next_task(self) -> tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None:
        with self._ready:
            while not (self._urgent or self._waiting or self._closed):
                self._ready.wait()
            return None if self._closed else (self._urgent or self._waiting).popleft()


@atexit.register
def _close_all() -> None:
    for crew in list(_open_crews):
        crew.close()
