"""Breaking an iteration off, by Ctrl-C above all: no read is begun any more, nobody waits for long, and the next iteration works."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

import hvs_data as hvs
from hvs_data.loaders.crew import Crew
from hvs_data.loaders.device_production import DeviceProduction
from hvs_data.loaders.order import EpochOrder
from hvs_data.loaders.watch import result_of
from hvs_data.sources.base import Sample, Source
from hvs_data.sources.retry import Retries
from hvs_data.threads import stopping
from hvs_data.threads.exclusive import one_at_a_time

RECIPE = hvs.recipes.simsiam(candidates=2, size=8)


class Gate(Source):
    """Sixty-four images, whose reads wait at a gate."""

    def __init__(self, free: int = 0):
        self.free, self.begun, self.open = free, [], threading.Event()

    def __len__(self) -> int:
        return 64

    def read(self, index: int) -> Sample:
        self.begun.append(index)
        if len(self.begun) > self.free:
            self.open.wait(60)
        return Sample(torch.full((3, 9, 9), index, dtype=torch.uint8), index)

    @property
    def fingerprint(self) -> str:
        return "gate"


class GateDataset(Dataset[Any]):
    """The same, read by one thread at a time."""

    def __init__(self, gate: Gate):
        self.gate = gate

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Any:
        return self.gate.read(index).data, index


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


def make(source: Any, **options: Any) -> hvs.ViewLoader:
    return hvs.ViewLoader(source, RECIPE, batch_size=32, num_threads=2, engine="reference", **options)


def interrupted(seconds: float, work: Callable[[], Any]) -> float:
    """Have Ctrl-C come while something works. Seconds from then to its end."""
    came: list[float] = []

    def interrupt() -> None:
        came.append(time.monotonic())
        signal.raise_signal(signal.SIGINT)

    timer = threading.Timer(seconds, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        work()
    return time.monotonic() - came[0]


def ends(threads: set[threading.Thread], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not any(thread.is_alive() for thread in threads)


def test_ctrl_c_while_a_batch_is_waited_for(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    """Guards: closing waits a second at most, not for the timeout, and no thread reads on to the end of its group."""
    others = set(threading.enumerate())
    loader = make(gate)
    with caplog.at_level(logging.WARNING, logger="hvs_data"):
        # reads wait for a minute; the rest is for a busy machine
        assert interrupted(1.0, lambda: next(iter(loader))) < 15
    assert [record for record in caplog.records if "held up" in record.getMessage()]
    assert len(gate.begun) == 2  # one a thread
    left = {thread for thread in set(threading.enumerate()) - others if thread.name.startswith("hvs-loader")}
    assert left and all(thread.daemon for thread in left)
    gate.open.set()
    assert ends(left)
    assert len(gate.begun) == 2
    loader.set_epoch(0)
    assert sorted(torch.cat([batch.index for batch in loader]).tolist()) == list(range(64))


def test_a_dataset_read_by_one_thread_at_a_time_begins_no_further_read(gate: Gate) -> None:
    """Guards: a thread that waits for its turn gives up when it is not needed any more."""
    gate.open.set()
    loader = make(hvs.open_source(GateDataset(gate), parallel=False))
    gate.open.clear()
    gate.begun.clear()
    others = set(threading.enumerate())
    assert interrupted(1.0, lambda: next(iter(loader))) < 15
    left = {thread for thread in set(threading.enumerate()) - others if thread.name.startswith("hvs-loader")}
    gate.open.set()
    assert ends(left) and len(gate.begun) == 1


def test_ctrl_c_while_it_closes(gate: Gate) -> None:
    """Guards: a Ctrl-C then is not lost, nor leaves a loader behind that is closed by half."""
    gate.free = 40
    others = set(threading.enumerate())
    loader = make(gate, prefetch=1)
    products = loader.products()
    next(products)
    interrupted(0.3, products.close)  # type: ignore[attr-defined]
    gate.open.set()
    assert ends({thread for thread in set(threading.enumerate()) - others if thread.name.startswith("hvs-loader")})
    loader.set_epoch(0)
    assert len(list(loader)) == 2


def test_breaking_off_between_batches_does_not_wait_for_the_reads_ahead(gate: Gate) -> None:
    gate.free = 40
    loader = make(gate, timeout=None)
    for _ in loader:
        begun = time.monotonic()
        break
    assert time.monotonic() - begun < 15
    count = len(gate.begun)
    gate.open.set()
    time.sleep(0.3)
    assert len(gate.begun) <= count + 2


class HostOnly:
    """A lane on which nothing is launched, as no image arrives."""

    device = torch.device("cpu")

    def host_memory(self, size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8)


def test_ctrl_c_in_device_production(gate: Gate) -> None:
    """Guards: neither the reading threads nor the launching one, which waits for them, hold it up."""
    others = set(threading.enumerate())
    loader = make(gate)
    production = DeviceProduction(loader._plan, EpochOrder(64, 0, 0), HostOnly())
    batches = production.batches([np.arange(32)])
    interrupted(1.0, lambda: next(batches))
    begun = time.monotonic()
    production.close()
    assert time.monotonic() - begun < 15
    launching = {thread for thread in set(threading.enumerate()) - others if "launch" in thread.name}
    assert ends(launching)
    assert len(gate.begun) == 2


def in_a_crew(work: Callable[[threading.Event], Any]) -> type[BaseException] | None:
    """What some work raises on a thread whose crew is closed meanwhile."""
    crew, working = Crew(1, name="test-crew"), threading.Event()
    future = crew.submit(work, working)
    working.wait(10)
    time.sleep(0.05)
    crew.close(30)
    error = future.exception(30)
    return type(error) if error is not None else None


def test_what_a_thread_waits_for_ends_when_its_crew_is_closed() -> None:
    """Guards: waits between attempts, for a turn, and for the tasks of another crew."""
    shared = object()

    def waits_to_try_again(working: threading.Event) -> None:
        def fail() -> None:
            working.set()
            raise OSError(5, "input/output error")

        Retries(attempts=2, first_wait=1000, longest_wait=1000).call(fail)

    def waits_for_a_turn(working: threading.Event) -> None:
        working.set()
        with one_at_a_time(shared):
            pytest.fail("it was never free")

    def waits_for_a_task(working: threading.Event) -> None:
        working.set()
        result_of(other.submit(gone.wait, 60))

    assert in_a_crew(waits_to_try_again) is stopping.Stopped
    with one_at_a_time(shared):
        assert in_a_crew(waits_for_a_turn) is stopping.Stopped
    other, gone = Crew(1, name="test-crew"), threading.Event()
    assert in_a_crew(waits_for_a_task) is stopping.Stopped
    gone.set()
    other.close()


PROGRAM = """
import signal, sys, threading, time
import torch, hvs_data as hvs
class Slow(torch.utils.data.Dataset):
    def __len__(self): return 64
    def __getitem__(self, index):
        if index >= FREE: print("reads", flush=True); time.sleep(60)
        return torch.zeros(3, 8, 8, dtype=torch.uint8)
source = hvs.open_source(Slow(), parallel=True)
loader = hvs.ViewLoader(source, hvs.recipes.simsiam(size=8), batch_size=32, shuffle=False, num_threads=2, engine="reference")
"""


@pytest.mark.parametrize(
    ("free", "rest"),
    [
        (1, "list(loader)"),
        (40, "for batch in loader: time.sleep(60)"),
        (40, "it = iter(loader); next(it); print('ends', flush=True)"),
    ],
    ids=["waiting", "between batches", "at exit"],
)
def test_a_program_ends_soon_after_ctrl_c(free: int, rest: str) -> None:
    """Guards: the interpreter's exit does not wait for reads of a minute, either."""
    code = PROGRAM.replace("FREE", str(free)) + rest
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert any("reads" in line for line in iter(program.stdout.readline, ""))
        time.sleep(0.3)
        begun = time.monotonic()
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=50)
        # reads wait for a minute; the rest is for a busy machine
        assert time.monotonic() - begun < 20
