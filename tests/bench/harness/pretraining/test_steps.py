"""Whole training steps, timed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from harness.measuring.timing import Spread
from harness.pretraining import steps


class Sleepy:
    """Stands for a training whose loader, selector and steps take known times; the first steps take longer."""

    setup = SimpleNamespace(device="cpu")

    def __init__(self, batches: int) -> None:
        self.batches = batches
        self.loader = self
        self.made = 0
        self.closed = False
        self.selector = SleepySelector.__new__(SleepySelector)
        self.selector.seconds = 0.0

    def __iter__(self) -> Iterator[int]:
        try:
            for number in range(self.batches):
                time.sleep(0.1 if number < steps.LEAD else 0.03)
                self.selector.seconds += 0.02
                yield number
        finally:
            self.closed = True

    def trained_on(self, batch: int) -> None:
        self.made += 1
        time.sleep(0.04)


class SleepySelector(steps.TimedSelector):
    """Has a time and nothing else."""


def test_steps_are_timed_after_those_whose_batches_were_made_ahead() -> None:
    training = Sleepy(steps.LEAD + 5)
    times = steps.timed_steps(training, 3)  # type: ignore[arg-type]
    assert training.made == steps.LEAD + 3 and training.closed
    # a sleep takes its time at least, and on a busy machine some more
    assert 0.01 <= times.wait < 0.06 and times.select == pytest.approx(0.02) and 0.04 <= times.train < 0.09
    assert times.whole == pytest.approx(times.wait + times.select + times.train)
    with pytest.raises(RuntimeError, match="batches"):
        steps.timed_steps(Sleepy(steps.LEAD + 1), 3)  # type: ignore[arg-type]


class Late(Sleepy):
    """Selects in the second half of its run alone."""

    steps = 100

    def __iter__(self) -> Iterator[int]:
        for number in range(self.batches):
            self.selector.seconds += 0.02 if self.selector.step >= 50 else 0.0
            yield number


def test_a_policy_that_begins_late_costs_what_it_does_in_the_whole_run() -> None:
    training = Late(steps.LEAD + 2)
    training.selector.step = 0
    assert steps.over_the_run(training, 8).select == pytest.approx(0.01)  # type: ignore[arg-type]


def test_a_cost_is_a_ratio_of_the_same_round() -> None:
    times = {"one": [steps.StepTimes(0.25, 0.5, 0.25), steps.StepTimes(0.5, 0.5, 1)], "base": [steps.StepTimes(0, 0, 0.5)] * 2}
    assert steps.cost(times, "one", "base") == Spread((2, 4))
