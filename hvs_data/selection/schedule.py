"""In which steps a selector scores: a function of the step alone, and so the same on every rank and after every resume."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from hvs_data.arguments.values import real_number, whole_number
from hvs_data.errors import SelectionError
from hvs_data.selection.draws import WHETHER, unit_numbers

# A number, or a function of the step that returns one.
Scheduled: TypeAlias = float | Callable[[int], float]


class Schedule:
    """When to score.

    Args:
        every: score in steps that are multiples of this number (of 1: in every step).
        probability: score in such a step with this probability, drawn from (seed, step).
        warmup: score in no step before this one.
        seed: from 0 to 2**64 - 1.
    """

    def __init__(self, every: Scheduled, probability: Scheduled, warmup: int, seed: int):
        self._every = checked("every", every, whole, "a whole number of at least 1; the model scores in every so manieth step")
        self._probability = checked("probability", probability, share, "a number from 0 to 1; the probability to score in a step")
        for name, value in (("warmup", warmup), ("seed", seed)):
            number = whole_number(value)
            if number is None or not 0 <= number < 2**64:
                raise SelectionError(f"{name} must be a whole number from 0 to 2**64 - 1, got {value!r}")
        self._warmup = int(warmup)
        self._seed = int(seed)
        self._always = every == 1 and probability == 1 and warmup == 0

    def every(self, step: int) -> int:
        """The distance between steps to score in."""
        return int(self._every(step))

    @property
    def always(self) -> bool:
        """Whether every step is one to score in, now and later."""
        return self._always

    def scores(self, step: int) -> bool:
        """Whether this step is one to score in."""
        if step < self._warmup or step % self.every(step) != 0:
            return False
        probability = self._probability(step)
        return probability >= 1 or bool(unit_numbers(self._seed, step, WHETHER, 1)[0] < probability)


def checked(name: str, value: Any, fits: Callable[[Any], bool], expected: str) -> Callable[[int], float]:
    """A setting as a function of the step; what a user's function returns is checked when it is called.

    Raises:
        SelectionError: a number that does not fit, now or when it is read.
    """

    def at(step: int) -> float:
        number = value(step) if callable(value) else value
        if not fits(number):
            where = f" at step {step}" if callable(value) else ""
            raise SelectionError(f"{name} must be {expected}; got {number!r}{where}")
        whole_ = whole_number(number)
        return float(number) if whole_ is None else whole_

    if not callable(value):
        at(0)
    return at


def whole(value: Any) -> bool:
    return (whole_number(value) or 0) >= 1


def share(value: Any) -> bool:
    number = real_number(value)
    return number is not None and 0 <= number <= 1


def positive(value: Any) -> bool:
    number = real_number(value)
    return number is not None and 0 < number < math.inf
