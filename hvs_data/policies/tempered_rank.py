"""Drawn by rank: hard pairs more often than easy ones, by how much changes over the run."""

# Axes: B image, M combination that may be chosen.

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from hvs_data.arguments.values import real_number, whole_number
from hvs_data.drawing.steps import WHICH
from hvs_data.errors import SelectionError
from hvs_data.policies.base import Moment, Policy
from hvs_data.policies.drawn import drawn
from hvs_data.policies.schedules import Ramp, Scheduled, check_scheduled, is_steady, number_at


def _at_least_0(value: Any) -> bool:
    number = real_number(value)
    return number is not None and number >= 0


_BETA: tuple[Any, str] = _at_least_0, "a number of at least 0; 0 is random, infinity the hardest"


@dataclass(frozen=True)
class TemperedRank(Policy):
    """Drawn with probabilities proportional to exp(beta * rank), the rank of an image's finite losses scaled to [0, 1].

    Ranks do not depend on the scale of the loss, so that one beta serves all methods. Of equal losses the later one ranks higher. In
    steps in which beta is 0 the model is not asked.

    Args:
        beta: 0 is random, infinity the hardest; a number, a function of the step, or a :class:`Ramp`. By default random for the first
            quarter of the run, then rising to 4, which needs the selector's ``total_steps``.
        leave_out: so many of the hardest are never drawn, as long as others are there.

    Raises:
        SelectionError: an argument that means nothing.
    """

    beta: Scheduled = Ramp(0, 4, start=0.25)
    leave_out: int = 0
    name: ClassVar[str] = "tempered"
    lists: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_scheduled("beta", self.beta, *_BETA)
        number = whole_number(self.leave_out)
        if number is None or number < 0:
            raise SelectionError(f"leave_out must be a whole number of at least 0, got {self.leave_out!r}; so many are never drawn")

    @property
    def steady(self) -> bool:
        return is_steady(self.beta)

    def asks(self, moment: Moment) -> bool:
        return number_at("beta", self.beta, moment, *_BETA) > 0

    def choose(self, value_BM: Tensor, moment: Moment) -> Tensor:
        beta = number_at("beta", self.beta, moment, *_BETA)
        finite_BM = value_BM.isfinite()
        order_BM = value_BM.masked_fill(~finite_BM, torch.inf).sort(dim=1, stable=True).indices
        finite_B1 = finite_BM.sum(1, keepdim=True)
        left_B1 = (finite_B1 - self.leave_out).clamp_min(1)
        place_M = torch.arange(value_BM.shape[1], device=value_BM.device)
        if math.isinf(beta):
            log_weight_BM = torch.where(place_M == left_B1 - 1, 0.0, -torch.inf).to(torch.float64)
        else:
            log_weight_BM = (beta * place_M.to(torch.float64) / (finite_B1 - 1).clamp_min(1)).masked_fill(place_M >= left_B1, -torch.inf)
        place_B = drawn(log_weight_BM, moment.of_images(WHICH, len(value_BM), value_BM.device))
        chosen_B = order_BM.gather(1, place_B[:, None])[:, 0]
        return chosen_B.where(finite_BM.any(1), 0)
