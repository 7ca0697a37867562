"""A loss between an image's smallest and its largest."""

# Axes: B image, M combination that may be chosen.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from hvs_data.arguments.checks import share
from hvs_data.policies.base import Moment, Policy
from hvs_data.policies.schedules import Scheduled, check_scheduled, number_at

_SHARE: tuple[Any, str] = share, "a number from 0, the smallest loss, to 1, the largest"


@dataclass(frozen=True)
class Quantile(Policy):
    """Of an image's finite losses in rising order the one whose place is nearest to a share of the way, of equal ones the first.

    Args:
        share: from 0, the smallest loss, to 1, the largest; a number, a function of the step, or a :class:`Ramp`.
    """

    share: Scheduled = 0.75
    name: ClassVar[str] = "quantile"
    lists: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_scheduled("quantile", self.share, *_SHARE)

    def choose(self, value_BM: Tensor, moment: Moment) -> Tensor:
        share_ = number_at("quantile", self.share, moment, *_SHARE)
        finite_BM = value_BM.isfinite()
        rising_BM = value_BM.masked_fill(~finite_BM, torch.inf).sort(1).values
        last_B = finite_BM.sum(1) - 1
        place_B = (last_B.to(torch.float64) * share_ + 0.5).floor().to(torch.int64).clamp_min(0)
        target_B1 = rising_BM.gather(1, place_B[:, None])
        return ((value_BM == target_B1) & finite_BM).to(torch.uint8).argmax(1)
