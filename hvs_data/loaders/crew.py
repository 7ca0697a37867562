"""Threads that work for one iteration of a loader."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from hvs_data.errors import ForkError
from hvs_data.threads.stopping import stop_at

# Seconds that closing waits for all threads together: a thread ends after the image that it is busy with, which takes milliseconds unless
# storage holds it up. Who breaks a run off is not to wait for that.
CLOSE_PATIENCE = 1.0
# Seconds that the interpreter's exit waits for all threads together, those that were left behind among them. Those that are still held up
# then are left to end with the process, which is safe for a thread that waits for the operating system.
EXIT_PATIENCE = 1.0

logger = logging.getLogger("hvs_data")

_open_crews: weakref.WeakSet[Crew] = weakref.WeakSet()
_left_behind: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


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
        self._stopped = threading.Event()
        self._ended = False
        self._process = os.getpid()
        # daemons, since the interpreter waits for other threads before anything could tell them to stop
        self._threads = [threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(threads)]
        self._at_work = set(self._threads)
        _open_crews.add(self)
        for thread in self._threads:
            thread.start()

    def check_process(self) -> None:
        """Nothing, in the process that started the threads.

        Raises:
            ForkError: this process was forked since, and has none of them.
        """
        if os.getpid() != self._process:
            raise ForkError(
                f"expected an iteration to go on in the process that began it ({self._process}), got process {os.getpid()}, which was "
                "forked since and has none of its threads; begin a new one here: iter(loader)"
            )

    def dead(self) -> list[str]:
        """Names of the threads that have ended though the crew is open, which nothing but outside force brings about."""
        return [] if self._stopped.is_set() else [thread.name for thread in self._threads if not thread.is_alive()]

    def submit(self, function: Callable[..., Any], *args: Any, urgent: bool = False) -> Future[Any]:
        """Have a function called. What it raises, of whatever kind, is raised by the future's ``result``."""
        self.check_process()  # before the lock, which a thread of the other process may hold for ever here
        future: Future[Any] = Future()
        with self._ready:
            if self._stopped.is_set():
                raise RuntimeError("the crew is closed; start another one")
            (self._urgent if urgent else self._waiting).append((future, function, args))
            self._ready.notify()
        return future

    def stop(self) -> None:
        """Cancel what has not begun, and have what has end where it next asks (:mod:`hvs_data.threads.stopping`). Waits for nothing."""
        if os.getpid() != self._process:
            return
        with self._ready:
            self._stopped.set()
            for future, _, _ in (*self._urgent, *self._waiting):
                future.cancel()
            self._urgent.clear()
            self._waiting.clear()
            self._ready.notify_all()

    def close(self, patience: float | None = None) -> None:
        """As :meth:`stop`, and wait for the threads' end. May be called more than once.

        Args:
            patience: seconds to wait for all threads together; None = for ever. A thread that is not done by then is left behind: it
                ends as soon as what holds it up does.
        """
        # an iteration that is left open is closed once more when the interpreter has already taken its modules apart
        if self._ended or os.getpid() != self._process:
            return  # there is nothing to end in a forked process
        self.stop()
        interrupt = self._wait_for_ends(None if patience is None else time.monotonic() + patience)
        self._ended = True
        left = [thread for thread in self._threads if thread in self._at_work and thread is not threading.current_thread()]
        for thread in self._threads:
            if thread not in left and thread is not threading.current_thread():
                thread.join()  # which is at its very end
        if left:
            logger.warning("threads of a loader are held up, by storage most likely, and are left behind; they end once they go on")
        _left_behind.update(left)
        self._threads = []
        _open_crews.discard(self)
        if interrupt is not None:
            raise interrupt

    def _wait_for_ends(self, deadline: float | None) -> KeyboardInterrupt | None:
        """Wait for the threads' ends. A Ctrl-C meanwhile is kept for when they are there, or ends a wait that has no deadline."""
        interrupt = None
        others = self._at_work - {threading.current_thread()}  # a generator may be collected, and so closed, by any thread
        while True:
            try:
                with self._ready:
                    while self._at_work & others and (deadline is None or time.monotonic() < deadline):
                        self._ready.wait(None if deadline is None else max(deadline - time.monotonic(), 0))
                return interrupt
            except KeyboardInterrupt as error:
                interrupt = error
                deadline = time.monotonic() if deadline is None else deadline

    def _work(self) -> None:
        stop_at(self._stopped)
        try:
            while (task := self._next_task()) is not None:
                future, function, args = task
                if future.set_running_or_notify_cancel():
                    try:
                        future.set_result(function(*args))
                    except BaseException as error:
                        future.set_exception(error)
                del task, future, function, args  # nothing is kept alive while waiting
        finally:
            with self._ready:
                self._at_work.discard(threading.current_thread())
                self._ready.notify_all()

    def _next_task(self) -> tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None:
        with self._ready:
            while not (self._urgent or self._waiting or self._stopped.is_set()):
                self._ready.wait()
            return None if self._stopped.is_set() else (self._urgent or self._waiting).popleft()


@atexit.register
def _close_all() -> None:
    deadline = time.monotonic() + EXIT_PATIENCE
    crews, left = list(_open_crews), list(_left_behind)
    for crew in crews:
        crew.stop()
    for crew in crews:
        crew.close(max(deadline - time.monotonic(), 0))
    for thread in left:
        thread.join(max(deadline - time.monotonic(), 0))
