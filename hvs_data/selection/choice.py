"""Which pair is taken: a selector's settings of that, and the choice by them."""

# Axes: B image, K chosen view, P legal pair.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hvs_data.arguments.checks import whole
from hvs_data.errors import SelectionError
from hvs_data.policies.base import FIRST, MOST_OVERLAP, Moment, Policy
from hvs_data.rows.layout import Layout, tables_of
from hvs_data.rules import RowRule, rule_of
from hvs_data.selection.allowed import PairRule
from hvs_data.selection.combinations import Chosen, Parts, listed_combinations
from hvs_data.selection.geometry import Geometry
from hvs_data.selection.sets import choose_views
from hvs_data.types.rows import ViewParams


@dataclass(frozen=True)
class Choice:
    """Settings of the choice.

    Attributes:
        policy: what chooses.
        rule: which pairs may be chosen; None for all legal ones.
        limit: the most combinations that are considered; None for all.

    Raises:
        SelectionError: a setting that means nothing.
    """

    policy: Policy
    rule: PairRule | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and not whole(self.limit):
            raise SelectionError(f"limit must be a whole number of at least 1, or None, got {self.limit!r}")
        object.__setattr__(self, "limit", None if self.limit is None else int(self.limit))

    @staticmethod
    def of(policy: Policy, allowed: RowRule | Sequence[RowRule] | None, limit: int | None) -> Choice:
        """From a selector's arguments: a pair must obey the policy's own rule and the user's, and hold the policy's anchor."""
        users, own, anchor = rule_of(allowed), policy.rule, policy.anchor
        rule = rule_of([part for part in (users, own) if part is not None])
        if rule is None and anchor is None:
            return Choice(policy, None, limit)
        return Choice(policy, PairRule(rule, FIRST if own is None else MOST_OVERLAP, anchor), limit)

    def foretold(self, geometry: Geometry, step: int, params: ViewParams | None, layout: Layout, device: torch.device) -> Tensor | None:
        """What rows foretell of each pair's loss, where the policy takes that off: float32 [B, P]; None for nothing.

        Raises:
            SelectionError: no rows.
        """
        if not self.policy.foretold:
            return None
        if params is None:
            raise SelectionError(
                f"policy {self.policy.name!r} reads the candidates' rows, got candidates without rows; pass params, such as batch.params"
            )
        told = geometry.foretold(step, params, layout.pairs)
        if told is None:
            return None
        told_BP = torch.from_numpy(told)
        # a copy from memory that is not page-locked may wait for all that is queued before it
        return (told_BP.pin_memory() if device.type == "cuda" else told_BP).to(device, non_blocking=True)

    def among(self, parts: Parts, layout: Layout, moment: Moment, first_BK: Tensor | None) -> Chosen:
        """What is chosen for every image.

        Args:
            parts: what the combinations are made of.
            layout: of the views.
            moment: of the choice.
            first_BK: int64 [B, K], see :func:`hvs_data.selection.combinations.choose_combination`.
        """
        device = parts.pair.device
        listed = listed_combinations(layout, self.policy, self.limit, moment, device)
        return choose_views(parts, layout, tables_of(layout, device), self.policy, moment, listed, first_BK)
