"""Work on a CUDA device, timed side by side: whole calls, and the device's part alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

import hvs_data as hvs
from harness.data import photos
from harness.measuring.staged import Finding
from harness.measuring.timing import Spread, alternate, ratio
from hvs_data.recipes.spec import Recipe
from hvs_data.types import ImageBatch

# Cycles for which the device is kept busy while work is queued, tried in turn: at 2 GHz from 8 ms to a second.
HEAD_STARTS = (2**24, 2**27, 2**31)

OURS = "hvs_data"
ALONE = "hvs_data, the device's part alone"
DIFFERS_ALONE = "the device's time for work that was queued before it began: without that of the CPU, which makes tables and launches"
NOTHING = "nothing"


@dataclass(frozen=True)
class Setup:
    """How much is measured.

    Attributes:
        size: side of the views.
        images: in the device's memory, and of a batch from files.
        batches: of one epoch from files.
        repeats, seed: as usual.
        quick: only try whether everything works.
    """

    size: int = 224
    images: int = 128
    batches: int = 16
    repeats: int = 5
    seed: int = 0
    quick: bool = False

    def recipe(self, candidates: int) -> Recipe:
        return hvs.recipes.simsiam(candidates, size=self.size)


QUICK = Setup(size=28, images=4, batches=2, repeats=2, quick=True)


class Bench:
    """A device and its clocks."""

    def __init__(self, setup: Setup, device: torch.device):
        self.setup, self.device = setup, device

    def decoded(self, paths: list[str]) -> ImageBatch:
        """As many images in the device's memory as the setup says."""
        return hvs.decode([Path(path).read_bytes() for path in photos.repeated(paths, self.setup.images)], device=self.device)

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, function: Callable[[], Any]) -> float:
        """Wall-clock time of a call and of all that it leaves to the device."""
        self.synchronize()
        start = time.perf_counter()
        kept = function()
        self.synchronize()
        del kept
        return time.perf_counter() - start

    def device_seconds(self, function: Callable[[], Any]) -> float:
        """Time that the device takes for a call's work if all of it is queued before the first begins."""
        if self.device.type != "cuda":
            return self.seconds(function)
        for cycles in HEAD_STARTS:
            self.synchronize()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(cycles)
            begin.record()
            kept = function()
            end.record()
            queued_ahead = not begin.query()
            end.synchronize()
            del kept
            if queued_ahead:
                return 1e-3 * begin.elapsed_time(end)
        raise RuntimeError(f"expected a call's work to be queued within {HEAD_STARTS[-1]} cycles of the device, it was not")

    def bytes_per_second(self) -> float:
        """What a large copy within the device's memory reads and writes."""
        source = torch.ones(2**24 if self.setup.quick else 2**30, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        return 2 * source.numel() / min(self.device_seconds(lambda: target.copy_(source)) for _ in range(9))

    def measure(
        self,
        group: str,
        makers: dict[str, Callable[[], Callable[[], Any]]],
        count: int,
        unit: str,
        bound: float | None = None,
        differs: dict[str, str] | None = None,
        mine: tuple[str, ...] = (OURS, ALONE),
    ) -> Iterator[Finding]:
        """Time contestants in alternation.

        Args:
            makers: functions that make them, by name. Those that cannot be made and run once are left out, with the reason.
            count: of ``unit`` in a call.
            bound: the most that the device's memory lets through a second; None where that is not known.
            differs: what some of them do otherwise, by name.
            mine: those that are compared with each of the others.
        """
        clocks = {name: self.device_seconds if name == ALONE else self.seconds for name in makers}
        able = {}
        for name, make in makers.items():
            try:
                made = make()
                # compiles what is to be compiled, and shows that it can be timed
                clocks[name](made)
                able[name] = made
            except Exception as error:
                yield not_run(group, name, error)
        if not able:
            return
        times = alternate({name: partial(clocks[name], function) for name, function in able.items()}, self.setup.repeats)
        speeds = {name: Spread(tuple(count / second for second in seconds)) for name, seconds in times.items()}
        for name, speed in speeds.items():
            share = None if bound is None else speed.median / bound
            about = {"unit": f"{unit}/s", "share_of_bound": share, "differs": (differs or {}).get(name, NOTHING)}
            yield {"what": "measurement", "group": group, "name": name, **about, **speed.as_json()}
        for own in mine:
            for name, speed in speeds.items() if own in speeds else ():
                if name not in mine:
                    yield {"what": "ratio", "group": group, "name": f"{own} / {name}", **ratio(speeds[own], speed).as_json()}


def not_run(group: str, name: str, error: Exception) -> Finding:
    """That something could not be run, and why."""
    # paths of this machine are nobody's business
    reason = " ".join(word for word in f"{type(error).__name__}: {error}".split()[:40] if "/" not in word)
    return {"what": "not run", "group": group, "name": name, "reason": reason}


def bench_on(device: str, quick: bool) -> Bench:
    """The device that a stage works on: "cuda" is the current one."""
    current = torch.cuda.current_device() if device == "cuda" else None
    return Bench(QUICK if quick else Setup(), torch.device(device, current))
