"""Numbers that change over a run: by the step, or by the share of the run that is behind."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from hvs_data.arguments.values import real_number, whole_number
from hvs_data.errors import SelectionError
from hvs_data.policies.base import Moment

_SHAPES = ("cosine", "linear")


@dataclass(frozen=True)
class Ramp:
    """A number that goes from one value to another between two shares of the run, and stays there.

    Needs ``total_steps`` of the selector.

    Args:
        first, last: the values before and after.
        start, stop: shares of the run, from 0 to 1, between which it changes.
        shape: "cosine", half a cosine, slow at both ends, or "linear".

    Raises:
        SelectionError: an argument that means nothing.
    """

    first: float
    last: float
    start: float = 0.0
    stop: float = 1.0
    shape: str = "cosine"

    def __post_init__(self) -> None:
        numbers = [real_number(value) for value in (self.first, self.last, self.start, self.stop)]
        if any(number is None or not math.isfinite(number) for number in numbers):
            raise SelectionError(f"Ramp takes four finite numbers, first, last, start and stop, got {self!r}")
        if not 0 <= self.start <= self.stop <= 1:
            raise SelectionError(f"Ramp takes shares of the run 0 <= start <= stop <= 1, got start={self.start!r} and stop={self.stop!r}")
        if self.shape not in _SHAPES:
            raise SelectionError(f"Ramp's shape must be one of {_SHAPES}, got {self.shape!r}")

    def at(self, moment: Moment) -> float:
        """The value in a step."""
        share = moment.share
        if share <= self.start:
            return float(self.first)
        if share >= self.stop:
            return float(self.last)
        way = (share - self.start) / (self.stop - self.start)
        if self.shape == "cosine":
            way = (1 - math.cos(math.pi * way)) / 2
        return self.first + (self.last - self.first) * way


# A number, a function of the step that returns one, or a ramp over the run.
Scheduled: TypeAlias = float | Callable[[int], float] | Ramp


def number_at(name: str, value: Scheduled, moment: Moment, fits: Callable[[Any], bool], expected: str) -> float:
    """A scheduled number in a step.

    Raises:
        SelectionError: one that does not fit.
    """
    number = value.at(moment) if isinstance(value, Ramp) else value(moment.step) if callable(value) else value
    if not fits(number):
        where = f" at step {moment.step}" if callable(value) or isinstance(value, Ramp) else ""
        raise SelectionError(f"{name} must be {expected}; got {number!r}{where}")
    whole_ = whole_number(number)
    return float(number) if whole_ is None else whole_


def check_scheduled(name: str, value: Any, fits: Callable[[Any], bool], expected: str) -> None:
    """Refuse what is no number that fits, and a ramp from or to one; what a function returns is checked when it is read.

    Raises:
        SelectionError: see above.
    """
    for number in (value.first, value.last) if isinstance(value, Ramp) else () if callable(value) else (value,):
        number_at(name, number, Moment(0), fits, expected)


def is_steady(value: Any) -> bool:
    """Whether it is the same number in all steps."""
    return not callable(value) and not isinstance(value, Ramp)
