"""Storage that fails, stalls or goes away, threads that die: a bounded number of attempts, then an error that says what to look at."""

from __future__ import annotations

import ctypes
import logging
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import hvs_data as hvs
from hvs_data.errors import HvsError, StalledError
from hvs_data.loaders.quarantine import Quarantine
from hvs_data.sources import retry
from hvs_data.sources.base import Sample, Source

RECIPE = hvs.recipes.simsiam(candidates=2, size=8)


class Storage(Source):
    """Twelve images behind storage that does as it is told.

    Args:
        trouble: called with an index and how often it was read before; it may raise or wait.
    """

    def __init__(self, trouble: Callable[[int, int], None]):
        self.trouble = trouble
        self.reads: Counter[int] = Counter()

    def __len__(self) -> int:
        return 12

    def read(self, index: int) -> Sample:
        before = self.reads[index]
        self.reads[index] += 1
        self.trouble(index, before)
        return Sample(torch.full((3, 9, 9), index, dtype=torch.uint8), index)

    def name_of(self, index: int) -> str:
        return f"shelf/{index}.jpg"

    @property
    def fingerprint(self) -> str:
        return "storage"


def make(source: object, **options: Any) -> hvs.ViewLoader:
    """A loader that renders without compiling anything, which may take longer than a stall is allowed to here."""
    return hvs.ViewLoader(source, RECIPE, engine="reference", **options)


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What retries would have waited, in seconds."""
    waits: list[float] = []
    monkeypatch.setattr(retry, "sleep", waits.append)
    return waits


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """An event on which reads may wait; it is set in the end."""
    event = threading.Event()
    yield event
    event.set()


def seen(loader: hvs.ViewLoader) -> list[int]:
    return torch.cat([batch.index for batch in loader]).tolist()


# --- failing -------------------------------------------------------------------------------------------------------------


def test_a_read_that_fails_for_a_moment_costs_nothing(no_waits: list[float]) -> None:
    def trouble(index: int, before: int) -> None:
        if index == 5 and before < 2:
            raise OSError(5, "input/output error")

    with_trouble = make(Storage(trouble), batch_size=4, retries=2)
    assert seen(with_trouble) == seen(make(Storage(lambda *_: None), batch_size=4))
    assert with_trouble.counters == {"read": 12, "replaced": 0, "bad": 0, "retries": 2}
    assert len(no_waits) == 2 and 0 < no_waits[0] < no_waits[1]


@pytest.mark.parametrize("retries", [0, 3])
def test_attempts_have_an_end(retries: int, no_waits: list[float]) -> None:
    def trouble(index: int, before: int) -> None:
        if index == 5:
            raise TimeoutError("no answer")

    source = Storage(trouble)
    loader = make(source, batch_size=4, retries=retries)
    assert 5 not in seen(loader)
    assert source.reads[5] == retries + 1 and len(no_waits) == retries
    assert loader.counters == {"read": 12, "replaced": 1, "bad": 1, "retries": retries}
    assert loader.quarantine.reasons == {5: "TimeoutError: no answer"}


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "gone"), PermissionError(13, "no"), IsADirectoryError(21, "a folder"), HvsError("no")]
)
def test_what_will_not_pass_is_not_waited_for(error: Exception, no_waits: list[float]) -> None:
    def trouble(index: int, before: int) -> None:
        if index == 5:
            raise error

    source = Storage(trouble)
    loader = make(source, batch_size=4)
    seen(loader)
    assert source.reads[5] == 1 and no_waits == [] and loader.counters["bad"] == 1


def test_a_file_that_vanishes_between_epochs_is_replaced(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    loader = make(tmp_path / "photos", batch_size=22)
    assert sorted(seen(loader)) == list(range(22))
    (tmp_path / "photos" / "cat" / "03.jpg").unlink()
    assert set(seen(loader)) == set(range(22)) - {3}
    assert loader.counters == {"read": 44, "replaced": 1, "bad": 1, "retries": 0}


def test_storage_that_goes_away_as_a_whole_stops_the_run(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    (tmp_path / "mount" / "photos").symlink_to(photos)
    loader = make(tmp_path / "mount" / "photos", batch_size=11)
    iterator = iter(loader)
    next(iterator)
    (tmp_path / "mount" / "photos").unlink()
    with pytest.raises(hvs.HvsError, match="No such file.*raise max_bad_share"):
        for _ in range(3):
            list(loader)


def test_counters_are_those_of_the_candidates_loader() -> None:
    loader = make(Storage(lambda *_: None), batch_size=4)

    class Flat(hvs.Objective):
        def encode(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.flatten(1)

    hard = hvs.HardViewLoader(loader, hvs.HardViewSelector(Flat()))
    list(hard)
    assert hard.counters == loader.counters == {"read": 12, "replaced": 0, "bad": 0, "retries": 0}
    assert hard.quarantine is loader.quarantine


def test_a_quarantine_log_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    quarantine = Quarantine(1000, 0.5, tmp_path / "no" / "such" / "folder" / "log.jsonl")
    with caplog.at_level(logging.WARNING, logger="hvs_data"):
        for index in range(3):
            quarantine.add(index, f"name {index}", "reason")
    assert len(quarantine) == 3
    lost = [record.getMessage() for record in caplog.records if "cannot write" in record.getMessage()]
    assert len(lost) == 3 and "name 2" in lost[2]


# --- stalling ------------------------------------------------------------------------------------------------------------


def test_a_stall_is_an_error_that_names_what_is_being_read(released: threading.Event) -> None:
    # iterations that other tests have left open may still wait to be collected
    others = set(threading.enumerate())

    def trouble(index: int, before: int) -> None:
        if index in (3, 4):
            released.wait(60)

    loader = make(Storage(trouble), batch_size=2, num_threads=3, shuffle=False, timeout=5)
    iterator = iter(loader)
    assert next(iterator).index.tolist() == [0, 1]
    begun = time.monotonic()
    named = r"within 5 s, got none; being read: 'shelf/[34].jpg' \(index [34], for [4-9].[0-9] s\).*larger timeout"
    with pytest.raises(StalledError, match=named):
        next(iterator)
    # the stalled threads are not waited for
    assert time.monotonic() - begun < 15
    released.set()
    deadline = time.monotonic() + 30
    while (
        left := [thread for thread in set(threading.enumerate()) - others if thread.name.startswith("hvs-loader")]
    ) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left
    # what was handed out counts
    assert loader.state_dict()["position"] == 2


def test_slow_storage_is_no_stall() -> None:
    loader = make(Storage(lambda *_: threading.Event().wait(0.05)), batch_size=4, num_threads=2, timeout=5)
    assert len(seen(loader)) == 12


def test_breaking_off_during_a_stall_ends_within_the_timeout(released: threading.Event) -> None:
    def trouble(index: int, before: int) -> None:
        if index > 3:
            released.wait(60)

    iterator = iter(make(Storage(trouble), batch_size=2, num_threads=2, shuffle=False, timeout=1.5))
    next(iterator)
    begun = time.monotonic()
    iterator.close()
    assert time.monotonic() - begun < 5


@pytest.mark.filterwarnings("ignore:Exception in thread")
def test_a_dead_thread_is_an_error_at_once() -> None:
    """An exception from outside, in the moment in which a thread takes its next task, ends it."""
    loader = make(Storage(lambda *_: None), batch_size=1, num_threads=1, prefetch=0, timeout=60)
    others = set(threading.enumerate())  # another test's, which were left behind, may not have ended yet
    iterator = iter(loader)
    next(iterator)
    (thread,) = set(threading.enumerate()) - others
    # it waits for a task now, outside of any task's own handling of errors
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))
    begun = time.monotonic()
    with pytest.raises(StalledError, match="threads to be alive, got an end of hvs-loader-0.*begin a new iteration"):
        for _ in range(3):
            next(iterator)
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("timeout", [0, -1, True, "60", float("nan")])
def test_a_timeout_is_a_number_of_seconds(timeout: object) -> None:
    with pytest.raises(HvsError, match="timeout must be a number of seconds above 0, or None"):
        make(Storage(lambda *_: None), batch_size=4, timeout=timeout)


STALLED = """
import sys, threading
import torch, hvs_data as hvs
from hvs_data.loaders import crew
class Stalled(torch.utils.data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, index):
        if index > 3: threading.Event().wait()
        return torch.zeros(3, 8, 8, dtype=torch.uint8)
loader = hvs.ViewLoader(Stalled(), hvs.recipes.simsiam(size=8), batch_size=2, shuffle=False, num_threads=2, timeout=TIMEOUT,
                        engine="reference")
"""


@pytest.mark.parametrize(
    ("timeout", "rest", "status", "error"),
    [
        ("0.3", "list(loader)", 1, "StalledError: expected a batch within 0.3 s"),
        # the exit waits a little for threads at work, and not for ever
        ("None", "crew.EXIT_PATIENCE = 0.5; it = iter(loader); next(it)", 0, "held up"),
    ],
)
def test_the_interpreter_ends_in_spite_of_a_stall(timeout: str, rest: str, status: int, error: str) -> None:
    code = STALLED.replace("TIMEOUT", timeout) + rest
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == status and error in done.stderr
