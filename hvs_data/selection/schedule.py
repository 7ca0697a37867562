"""In which steps a selector scores: a function of the step alone, and so the same on every rank and after every resume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hvs_data.arguments.checks import share, whole
from hvs_data.arguments.values import whole_number
from hvs_data.drawing.steps import WHETHER
from hvs_data.errors import SelectionError
from hvs_data.policies.base import Moment
from hvs_data.policies.schedules import Scheduled, check_scheduled, number_at

_EVERY: tuple[Any, str] = whole, "a whole number of at least 1; the model scores in one of so many steps"
_PROBABILITY: tuple[Any, str] = share, "a number from 0 to 1; the probability to score in a step"


@dataclass(frozen=True)
class Schedule:
    """When to score.

    Args:
        every: score in steps that are multiples of this number (of 1: in every step).
        probability: score in such a step with this probability, drawn from (seed, step).
        warmup: score in no step before this one; below 1, a share of the run.
        seed: from 0 to 2**64 - 1.
        total_steps: of the whole run, which schedules over shares of it need.

    Raises:
        SelectionError: an argument that means nothing.
    """

    every: Scheduled
    probability: Scheduled
    warmup: float
    seed: int
    total_steps: int | None = None

    def __post_init__(self) -> None:
        check_scheduled("every", self.every, *_EVERY)
        check_scheduled("probability", self.probability, *_PROBABILITY)
        seed, warmup = whole_number(self.seed), whole_number(self.warmup)
        if seed is None or not 0 <= seed < 2**64:
            raise SelectionError(f"seed must be a whole number from 0 to 2**64 - 1, got {self.seed!r}")
        if (warmup is None or warmup < 0) and not (share(self.warmup) and 0 < self.warmup < 1):
            raise SelectionError(f"warmup must be a whole number of steps, or a share of the run between 0 and 1, got {self.warmup!r}")
        if self.total_steps is not None and not whole(self.total_steps):
            raise SelectionError(f"total_steps must be a whole number of at least 1, or None, got {self.total_steps!r}")
        object.__setattr__(self, "seed", seed)

    def moment(self, step: int) -> Moment:
        """A step of this run."""
        return Moment(step, None if self.total_steps is None else int(self.total_steps), self.seed)

    @property
    def always(self) -> bool:
        """Whether every step is one to score in, now and later."""
        return self.every == 1 and self.probability == 1 and self.warmup == 0

    def distance(self, step: int) -> int:
        """How many steps apart those are that score."""
        return int(number_at("every", self.every, self.moment(step), *_EVERY))

    def scores(self, step: int) -> bool:
        """Whether this step is one to score in."""
        moment = self.moment(step)
        if self._warms_up(moment) or step % self.distance(step) != 0:
            return False
        probability = number_at("probability", self.probability, moment, *_PROBABILITY)
        return probability >= 1 or moment.of_step(WHETHER) < probability

    def _warms_up(self, moment: Moment) -> bool:
        return moment.share < self.warmup if 0 < self.warmup < 1 else moment.step < self.warmup
