"""Statistics of repeats, alternation, and the clock around an epoch."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from harness.measuring import timing
from harness.measuring.timing import Spread, alternate, ratio, run_epoch


def test_a_spread_has_the_median_and_quartiles_of_its_repeats() -> None:
    # five values: the quartiles are the second and the fourth, whatever the order
    spread = Spread((5, 1, 4, 2, 3))
    assert spread.as_json() == {"median": 3, "q1": 2, "q3": 4, "repeats": [5, 1, 4, 2, 3]}
    # four values: between neighbours; quartile at a quarter of the way through the three gaps
    assert Spread((1, 2, 3, 4)).as_json() == {"median": 2.5, "q1": 1.75, "q3": 3.25, "repeats": [1, 2, 3, 4]}
    assert Spread((7,)).as_json() == {"median": 7, "q1": 7, "q3": 7, "repeats": [7]}


def test_an_outlier_leaves_the_median_alone() -> None:
    assert Spread((10, 11, 12, 13, 1000)).median == 12


def test_no_measurement_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one measurement"):
        Spread(())


def test_a_ratio_is_taken_round_by_round() -> None:
    # a machine that slows down by half: the ratio of each round does not see it, the ratio of medians of other rounds would
    fast, slow = Spread((100, 50, 80)), Spread((10, 5, 8))
    assert ratio(fast, slow).repeats == (10, 10, 10)
    with pytest.raises(ValueError):
        ratio(fast, Spread((1, 2)))


def test_alternation_calls_everyone_once_a_round_after_a_warm_up() -> None:
    calls: list[str] = []

    def contestant(name: str) -> int:
        calls.append(name)
        return len(calls)

    returned = alternate({name: (lambda name=name: contestant(name)) for name in "abc"}, repeats=4)
    rounds = [calls[start : start + 3] for start in range(0, len(calls), 3)]
    assert len(rounds) == 5 and all(sorted(round_) == ["a", "b", "c"] for round_ in rounds)
    # everyone is first in turn
    assert [round_[0] for round_ in rounds[1:]] == ["a", "b", "c", "a"]
    # values are filed under who returned them; the warm-up's are not kept
    assert all(calls[value - 1] == name for name, values in returned.items() for value in values)
    assert all(len(values) == 4 and min(values) > 3 for values in returned.values())


class Clock:
    """A clock that only moves when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", clock)
    return clock


def batches(clock: Clock, waits: list[float], images: int = 4, side: int = 8) -> Iterator[tuple[list[torch.Tensor], torch.Tensor]]:
    for wait in waits:
        clock.now += wait
        yield [torch.zeros(images, 3, side, side)] * 2, torch.zeros(images)
    clock.now += 0.5  # what a loader needs to end


def test_an_epoch_counts_images_and_the_time_of_every_batch(clock: Clock) -> None:
    epoch = run_epoch(batches(clock, [3.0, 1.0, 2.0]), [(3, 8, 8)] * 2)
    assert (epoch.images, epoch.seconds, epoch.first, epoch.waits) == (12, 6.5, 3.0, (1.0, 2.0))
    assert epoch.images_per_second == 12 / 6.5


def test_views_that_were_not_asked_for_are_not_timed(clock: Clock) -> None:
    for shapes in ([(3, 8, 8)], [(3, 8, 8)] * 3, [(3, 8, 8), (3, 4, 4)]):
        with pytest.raises(RuntimeError, match="must do the same work"):
            run_epoch(batches(clock, [1.0]), shapes)


def test_seconds_of_a_call() -> None:
    assert 0.02 <= timing.seconds_of(lambda: time.sleep(0.02)) < 5
