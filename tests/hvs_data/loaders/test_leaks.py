"""Nothing is left behind, however an iteration ends: no thread, no open file, no process, and no memory that grows."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import hvs_data as hvs

RECIPE = hvs.recipes.simsiam(candidates=3, size=16)


class Flat(hvs.Objective):
    """Scores pixels as they are."""

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.flatten(1)


def held() -> tuple[set[str], set[str], list[str]]:
    """Names of the loaders' threads, what open files are, and child processes."""
    gc.collect()
    threads = {thread.name for thread in threading.enumerate() if thread.name.startswith("hvs")}
    files = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            files.add(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue  # the one of this listing
    children = [child for task in Path("/proc/self/task").glob("*/children") for child in task.read_text().split()]
    return threads, files, children


def to_the_end(loader: hvs.HardViewLoader) -> None:
    list(loader)


def broken_off(loader: hvs.HardViewLoader) -> None:
    for _ in loader:
        break


def ended_by_an_exception(loader: hvs.HardViewLoader) -> None:
    with pytest.raises(ZeroDivisionError):
        for _ in loader:
            1 / 0  # noqa: B018


def never_begun(loader: hvs.HardViewLoader) -> None:
    iter(loader)


def several_at_once(loader: hvs.HardViewLoader) -> None:
    iterators = [iter(loader) for _ in range(3)]
    for iterator in iterators:
        next(iterator)
    iterators[0].close()  # type: ignore[attr-defined]
    list(iterators[1])


def closed_by_another_thread(loader: hvs.HardViewLoader) -> None:
    iterator = iter(loader)
    next(iterator)
    thread = threading.Thread(target=iterator.close)  # type: ignore[attr-defined]
    thread.start()
    thread.join()


def stopped_by_too_many_bad_images(loader: hvs.HardViewLoader) -> None:
    bad = hvs.ViewLoader([b"bad"] * 40, RECIPE, batch_size=4)
    with pytest.raises(hvs.HvsError):
        list(bad)


@pytest.mark.parametrize(
    "use",
    [
        to_the_end,
        broken_off,
        ended_by_an_exception,
        never_begun,
        several_at_once,
        closed_by_another_thread,
        stopped_by_too_many_bad_images,
    ],
)
def test_nothing_is_left(use: Callable[[hvs.HardViewLoader], None], photos: Path, tmp_path: Path) -> None:
    quarantine = tmp_path / "quarantine.jsonl"
    loader = hvs.HardViewLoader(
        hvs.ViewLoader(photos, RECIPE, batch_size=4, num_threads=3, quarantine=quarantine), hvs.HardViewSelector(Flat(), score_size=8)
    )
    to_the_end(loader)  # what is loaded on first use
    before = held()
    assert before[0] == set()
    for _ in range(3):
        use(loader)
    assert held() == before


def test_memory_does_not_grow_with_batches(photos: Path) -> None:
    """A small version of bench/soak.py."""
    loader = hvs.ViewLoader(photos, hvs.recipes.simsiam(candidates=2, size=112), batch_size=11, num_threads=2)

    def resident() -> float:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    for _ in range(20):
        list(loader)
    before = resident()
    for _ in range(100):
        for _ in loader:
            pass
    # 100 epochs x 2 batches x a view of 11 x 3 x 112 x 112 floats would be 316 MiB
    assert resident() - before < 32
