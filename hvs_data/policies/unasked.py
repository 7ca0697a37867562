"""Policies that do not ask the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hvs_data.policies.base import FIRST, LEAST_OVERLAP, Policy


@dataclass(frozen=True)
class Random(Policy):
    """The first legal pair, and the first local views: rows are drawn independently, so the first ones are as random as any."""

    name: ClassVar[str] = "random"
    unasked: ClassVar[str] = FIRST

    @property
    def ever_asks(self) -> bool:
        return False


@dataclass(frozen=True)
class SmallestIoU(Policy):
    """The boxes that overlap least; of several views, by the sum over the pairs that an additive loss compares."""

    name: ClassVar[str] = "smallest_iou"
    unasked: ClassVar[str] = LEAST_OVERLAP

    @property
    def ever_asks(self) -> bool:
        return False
