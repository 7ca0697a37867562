"""Policies that do not ask the model."""

# Axes: B image, M combination that may be chosen.

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hvs_data.policies.base import FIRST, LEAST_OVERLAP, Moment, Policy


class Unasked(Policy):
    """What ``unasked`` names, in every step."""

    @property
    def ever_asks(self) -> bool:
        return False

    def choose(self, value_BM: Tensor, moment: Moment) -> Tensor:
        """The first with a finite value, were it given any."""
        return value_BM.isfinite().to(torch.uint8).argmax(1)


@dataclass(frozen=True)
class Random(Unasked):
    """The first legal pair, and the first local views: rows are drawn independently, so the first ones are as random as any."""

    name: ClassVar[str] = "random"
    unasked: ClassVar[str] = FIRST


@dataclass(frozen=True)
class SmallestIoU(Unasked):
    """The boxes that overlap least; of several views, by the sum over the pairs that an additive loss compares."""

    name: ClassVar[str] = "smallest_iou"
    unasked: ClassVar[str] = LEAST_OVERLAP
