"""Processes that are forked while a loader is in use: a clear error there for what belongs to the parent, and new iterations work."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import hvs_data as hvs
from hvs_data.errors import ForkError
from hvs_data.loaders.forks import ForkSafeLock
from hvs_data.pipelines.stage import Stage

RECIPE = hvs.recipes.simsiam(candidates=2, size=16)
# Python warns of forking with threads at work, which is what is tested
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def in_a_fork(check: Callable[[], None], seconds: float = 60) -> str:
    """What a forked process found: empty if the check passed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        message = b""
        try:
            check()
        except BaseException as error:
            message = repr(error).encode()
        os.write(write, message or b"passed")
        os._exit(0)
    os.close(write)
    deadline = time.monotonic() + seconds
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            return "it hangs"
        time.sleep(0.01)
    with os.fdopen(read, "rb") as pipe:
        found = pipe.read().decode()
    return "" if found == "passed" else found or "it died"


def test_an_open_iteration_is_not_for_a_forked_process(photos: Path) -> None:
    loader = hvs.ViewLoader(photos, RECIPE, batch_size=2, num_threads=2)
    iterator = iter(loader)
    next(iterator)

    def check() -> None:
        with pytest.raises(ForkError, match=rf"process that began it \({os.getppid()}\), got process {os.getpid()}.*iter\(loader\)"):
            next(iterator)

    assert in_a_fork(check) == ""
    # the parent's goes on as if nothing had been
    assert len(list(iterator)) == 10


def check_new_iterations_in_forks(photos: str) -> None:
    loader = hvs.ViewLoader(photos, RECIPE, batch_size=4, num_threads=2)
    expected = [batch.views[0] for batch in loader]
    loader.set_epoch(0)
    iterator = iter(loader)
    next(iterator)

    def check() -> None:
        loader.set_epoch(0)
        assert all(torch.equal(batch.views[0], view) for batch, view in zip(loader, expected, strict=True))

    # forked at many points of what the threads do: they may hold any lock
    for _ in range(8):
        assert in_a_fork(check) == ""
        next(iterator, None)


def test_a_new_iteration_works_in_a_forked_process(photos: Path) -> None:
    # In a process of its own: once torch.set_num_threads was called, as other tests do, torch itself refuses the first operation of every
    # new thread of a forked process ("Invalid thread pool!").
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_forks; test_forks.check_new_iterations_in_forks(sys.argv[2])"
    command = [sys.executable, "-W", "ignore", "-c", code, str(Path(__file__).parent), str(photos)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_what_is_left_of_an_iteration_ends_quietly_in_a_forked_process(photos: Path) -> None:
    iterator = iter(hvs.ViewLoader(photos, RECIPE, batch_size=2, num_threads=2))
    next(iterator)

    def check() -> None:
        nonlocal iterator
        iterator.close()  # type: ignore[attr-defined]
        del iterator
        gc.collect()

    assert in_a_fork(check) == ""


def test_a_batch_of_the_parent_stays_readable(photos: Path) -> None:
    batch = next(iter(hvs.ViewLoader(photos, RECIPE, batch_size=2)))
    total = batch.views[0].sum()
    assert in_a_fork(lambda: torch.testing.assert_close(batch.views[0].sum(), total)) == ""


def test_a_stage_that_another_thread_is_in_can_be_called_after_a_fork() -> None:
    held, go = threading.Event(), threading.Event()

    def stay(x: torch.Tensor) -> torch.Tensor:
        held.set()
        go.wait(60)
        return x

    stage = Stage(stay, parallel=False)
    views, keys = torch.zeros(1, 3, 4, 4), torch.tensor([1])
    thread = threading.Thread(target=lambda: stage(views, keys))
    thread.start()
    held.wait(10)

    def check() -> None:
        go.set()  # the parent's stays as it is
        stage(views, keys)

    assert in_a_fork(check, 10) == ""
    go.set()
    thread.join()


def test_a_lock_that_another_thread_holds_is_open_after_a_fork() -> None:
    lock, held, go = ForkSafeLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            go.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)

    def check() -> None:
        with lock:
            pass

    assert in_a_fork(check, 10) == ""
    go.set()
    thread.join()
    with lock:  # and whole in the parent
        assert not lock._lock.acquire(blocking=False)
