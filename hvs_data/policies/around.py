"""What policies share that leave the choice to another one."""

# Axes: B image, M combination that may be chosen.

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hvs_data.policies.base import Moment, Policy
from hvs_data.rules import RowRule
from hvs_data.types.rows import ViewParams


class Around(Policy):
    """Everything as another policy has it; what differs, a subclass says.

    Attributes:
        policy: the other one.
    """

    policy: Policy

    @property
    def lists(self) -> bool:  # type: ignore[override]
        return self.policy.lists

    @property
    def foretold(self) -> bool:  # type: ignore[override]
        return self.policy.foretold

    @property
    def unasked(self) -> str:  # type: ignore[override]
        return self.policy.unasked

    @property
    def seeks(self) -> int:
        return self.policy.seeks

    @property
    def may_prefilter(self) -> bool:
        return self.policy.may_prefilter

    @property
    def rule(self) -> RowRule | None:
        return self.policy.rule

    @property
    def anchor(self) -> Callable[[ViewParams], Tensor] | None:
        return self.policy.anchor

    @property
    def ever_asks(self) -> bool:
        return self.policy.ever_asks

    @property
    def steady(self) -> bool:
        return self.policy.steady

    def asks(self, moment: Moment) -> bool:
        return self.policy.asks(moment)

    def choose(self, value_BM: Tensor, moment: Moment) -> Tensor:
        return self.policy.choose(value_BM, moment)

    def at_random(self, images: int, moment: Moment, device: torch.device) -> Tensor | None:
        return self.policy.at_random(images, moment, device)
