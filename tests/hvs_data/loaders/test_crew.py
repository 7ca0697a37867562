"""Worker threads: order, urgency, errors, and an end in every case."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError

import pytest

from hvs_data.loaders.crew import Crew


@pytest.fixture
def crew():
    crew = Crew(1, name="test-crew")
    yield crew
    crew.close()


def alive() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("test-crew")]


def test_tasks_run_in_order_and_urgent_ones_first(crew: Crew) -> None:
    begin, done = threading.Event(), []
    crew.submit(begin.wait)
    futures = [crew.submit(done.append, name) for name in "abc"] + [crew.submit(done.append, name, urgent=True) for name in "xy"]
    begin.set()
    for future in futures:
        future.result(10)
    assert done == ["x", "y", "a", "b", "c"]


def test_several_threads_work_at_once() -> None:
    crew, both = Crew(2, name="test-crew"), threading.Barrier(2)
    futures = [crew.submit(both.wait, 10) for _ in range(2)]
    assert sorted(future.result(10) for future in futures) == [0, 1]
    crew.close()


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), SystemExit(3)])
def test_what_a_task_raises_reaches_who_waits_and_the_thread_goes_on(crew: Crew, error: BaseException) -> None:
    def fail() -> None:
        raise error

    future = crew.submit(fail)
    with pytest.raises(type(error)):
        future.result(10)
    assert crew.submit(int, "7").result(10) == 7


def test_closing_cancels_what_waits_and_waits_for_what_runs(crew: Crew) -> None:
    running, go, finished = threading.Event(), threading.Event(), []

    def task() -> None:
        running.set()
        go.wait(10)
        finished.append(True)

    crew.submit(task)
    waiting = crew.submit(finished.append, False)
    running.wait(10)
    threading.Timer(0.05, go.set).start()
    crew.close()
    assert finished == [True] and not alive()
    with pytest.raises(CancelledError):
        waiting.result(0)
    crew.close()
    with pytest.raises(RuntimeError, match="closed"):
        crew.submit(int)


def test_a_task_may_close_its_own_crew(crew: Crew) -> None:
    crew.submit(crew.close).result(10)
    deadline = time.monotonic() + 10
    while alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive()


def test_nothing_of_a_finished_task_is_kept(crew: Crew) -> None:
    class Big: ...

    big = Big()
    gone = weakref.ref(big)
    future = crew.submit(lambda value: None, big)
    future.result(10)
    del big, future
    crew.submit(int).result(10)
    assert gone() is None


def test_the_interpreter_ends_with_a_crew_at_work() -> None:
    code = (
        "import time\nfrom hvs_data.loaders.crew import Crew\nfor _ in range(50): crew = Crew(2); crew.submit(time.sleep, .1)\nprint('end')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
