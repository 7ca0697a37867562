"""The largest or the smallest loss."""

# Axes: B image, M combination that may be chosen.

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hvs_data.policies.base import Moment, Policy


@dataclass(frozen=True)
class Hardest(Policy):
    """The largest loss, of equal ones the first: the published method (Ferreira et al., arXiv 2310.03940)."""

    name: ClassVar[str] = "hardest"

    @property
    def seeks(self) -> int:
        return 1

    def choose(self, value_BM: Tensor, moment: Moment) -> Tensor:
        # argmax takes the first of equals, and so the first of a row without a finite value
        return value_BM.masked_fill(~value_BM.isfinite(), -torch.inf).argmax(1)


@dataclass(frozen=True)
class Easiest(Policy):
    """The smallest loss, of equal ones the first: a control."""

    name: ClassVar[str] = "easiest"

    @property
    def seeks(self) -> int:
        return -1

    def choose(self, value_BM: Tensor, moment: Moment) -> Tensor:
        return value_BM.masked_fill(~value_BM.isfinite(), torch.inf).argmin(1)
