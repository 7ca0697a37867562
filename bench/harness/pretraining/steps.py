"""Whole training steps, timed side by side: waiting for views, selecting, training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, fields

import torch

from harness.measuring.timing import Spread, alternate, ratio
from harness.pretraining import training
from hvs_data.demo.timing import TimedSelector

# Batches that are made ahead would be free: so many steps are made before the clock starts, after which as many are in the making
# at the end as at the beginning.
LEAD = 4
# Shares of a run at which an arm's steps are timed, as a policy may score no candidates at its beginning.
PLACES = (0.125, 0.375, 0.625, 0.875)


@dataclass(frozen=True)
class StepTimes:
    """Mean seconds of a step.

    Attributes:
        wait: for the loader, without what the selector takes.
        select: in the selector.
        train: forward, backward, optimizer.
    """

    wait: float
    select: float
    train: float

    @property
    def whole(self) -> float:
        return self.wait + self.select + self.train


def timed_steps(running: training.Training, steps: int) -> StepTimes:
    """Make ``LEAD + steps`` steps on one iteration of the loader and time the last ones; its threads end with it.

    Raises:
        RuntimeError: an epoch that is too short for them.
    """
    device = torch.device(running.setup.device)
    selector = getattr(running.loader, "selector", None)
    wait = train = select = 0.0
    with closing(iter(running.loader)) as batches:
        for number in range(LEAD + steps):
            before = selector.seconds if isinstance(selector, TimedSelector) else 0.0
            start = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                raise RuntimeError(f"expected an epoch of at least {LEAD + steps} batches, got {number}; use more images or fewer steps")
            _wait_for(device)
            arrival = time.perf_counter()
            running.trained_on(batch)
            _wait_for(device)
            if number >= LEAD:
                selecting = selector.seconds - before if isinstance(selector, TimedSelector) else 0.0
                select += selecting
                wait += arrival - start - selecting
                train += time.perf_counter() - arrival
    return StepTimes(wait / steps, select / steps, train / steps)


def over_the_run(running: training.Training, steps: int) -> StepTimes:
    """As :func:`timed_steps`; with a selector as the mean over ``PLACES``, at each of which a share of the steps is timed."""
    selector = getattr(running.loader, "selector", None)
    if selector is None:
        return timed_steps(running, steps)
    times = []
    for place in PLACES:
        selector.step = round(place * running.steps)
        times.append(timed_steps(running, max(1, steps // len(PLACES))))
    return StepTimes(*(sum(getattr(one, part.name) for one in times) / len(times) for part in fields(StepTimes)))


def side_by_side(
    trainings: Mapping[str, training.Training], steps: int, repeats: int, timed: Callable[..., StepTimes] = timed_steps
) -> dict[str, list[StepTimes]]:
    """Times of everyone's steps, round by round."""
    return alternate({name: (lambda its=its: timed(its, steps)) for name, its in trainings.items()}, repeats)


def cost(times: Mapping[str, list[StepTimes]], name: str, base: str) -> Spread:
    """A step's time over that of the base, taken in the same round."""
    whole = {its: Spread(tuple(one.whole for one in times[its])) for its in (name, base)}
    return ratio(whole[name], whole[base])


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
