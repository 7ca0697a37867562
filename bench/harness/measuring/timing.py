"""Timing: several repeats in alternation, medians with quartiles, waits for the next batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


@dataclass(frozen=True)
class Spread:
    """One number measured several times.

    Attributes:
        repeats: the measurements, in the order in which they were taken.
    """

    repeats: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.repeats:
            raise ValueError("expected at least one measurement, got none")
        object.__setattr__(self, "repeats", tuple(float(value) for value in self.repeats))

    def quantile(self, share: float) -> float:
        """The value below which this share of the repeats lies, interpolated between neighbours."""
        return float(np.quantile(self.repeats, share))

    @property
    def median(self) -> float:
        return self.quantile(0.5)

    def as_json(self) -> dict[str, Any]:
        return {"median": self.median, "q1": self.quantile(0.25), "q3": self.quantile(0.75), "repeats": list(self.repeats)}


def ratio(numerator: Spread, denominator: Spread) -> Spread:
    """Quotients of what was measured in the same round of an alternation."""
    return Spread(tuple(above / below for above, below in zip(numerator.repeats, denominator.repeats, strict=True)))


def alternate(contestants: Mapping[str, Callable[[], T]], repeats: int) -> dict[str, list[T]]:
    """Call everyone once a round, so that whatever else the machine does meets them all.

    The round before the first warms up and is thrown away. Each round begins with another contestant, since who goes first may find
    the machine in another state than who follows.

    Args:
        contestants: functions by name.
        repeats: rounds that count.

    Returns:
        what each function returned, by name, one value a round.
    """
    names = list(contestants)
    for name in names:
        contestants[name]()
    returned: dict[str, list[T]] = {name: [] for name in names}
    for round_ in range(repeats):
        first = round_ % len(names)
        for name in names[first:] + names[:first]:
            returned[name].append(contestants[name]())
    return returned


@dataclass(frozen=True)
class Epoch:
    """One pass over a loader by a consumer that does nothing with the batches.

    Attributes:
        images: number of images received.
        seconds: from asking for an iterator to its end.
        first: seconds until the first batch arrived.
        waits: seconds that each further batch took to arrive.
    """

    images: int
    seconds: float
    first: float
    waits: tuple[float, ...]

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds


def run_epoch(loader: Iterable[Any], shapes: Sequence[tuple[int, ...]]) -> Epoch:
    """Time one pass.

    Args:
        loader: gives ``(views, labels)``, views being a list of [B, 3, S, S] tensors.
        shapes: (3, S, S) of every view that must arrive.

    Raises:
        RuntimeError: a batch without exactly these views: it would be another operation that was timed.
    """
    images, waits = 0, []
    start = before = time.perf_counter()
    for views, _ in loader:
        now = time.perf_counter()
        waits.append(now - before)
        before = now
        arrived = [tuple(view.shape[1:]) for view in views]
        if arrived != list(shapes):
            raise RuntimeError(f"expected views of shapes {list(shapes)}, got {arrived}; the loaders compared must do the same work")
        images += views[0].shape[0]
    return Epoch(images, time.perf_counter() - start, waits[0], tuple(waits[1:]))


def seconds_of(function: Callable[[], Any]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
