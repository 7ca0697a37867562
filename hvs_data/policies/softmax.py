"""Drawn, the more often the larger the loss."""

# Axes: B image, M combination that may be chosen.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from hvs_data.arguments.checks import positive
from hvs_data.drawing.steps import WHICH
from hvs_data.policies.base import Moment, Policy
from hvs_data.policies.drawn import drawn
from hvs_data.policies.schedules import Scheduled, check_scheduled, number_at

_POSITIVE: tuple[Any, str] = positive, "a number above 0, in units of the loss"


@dataclass(frozen=True)
class Softmax(Policy):
    """Drawn with probabilities proportional to exp(loss / temperature).

    Args:
        temperature: above 0, in units of the loss; a number, a function of the step, or a :class:`Ramp`.
    """

    temperature: Scheduled = 1.0
    name: ClassVar[str] = "softmax"
    lists: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_scheduled("temperature", self.temperature, *_POSITIVE)

    def choose(self, value_BM: Tensor, moment: Moment) -> Tensor:
        temperature = number_at("temperature", self.temperature, moment, *_POSITIVE)
        finite_BM = value_BM.isfinite()
        place_B = drawn(
            (value_BM.to(torch.float64) / temperature).masked_fill(~finite_BM, -torch.inf),
            moment.of_images(WHICH, len(value_BM), value_BM.device),
        )
        return place_B.where(finite_BM.any(1), 0)
