"""What a rule on rows leaves of an image's pairs, for all kinds of steps alike."""

# Axes: B image, V view slot, P legal pair of a layout, K chosen or shown view.

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hvs_data.errors import SelectionError
from hvs_data.policies.base import FIRST, MOST_OVERLAP
from hvs_data.rows.layout import Layout, tables_of
from hvs_data.rules import RowRule, table_of
from hvs_data.types import ViewParams, pairwise_iou


@dataclass(frozen=True)
class PairRule:
    """Which pairs may be chosen.

    Attributes:
        rule: of rows.
        otherwise: what an image gets of whose pairs it allows none: FIRST, its first legal pair, or MOST_OVERLAP, that of the boxes that
            overlap most.
    """

    rule: RowRule
    otherwise: str = FIRST


@dataclass(frozen=True)
class AllowedPairs:
    """The pairs of some images that may be chosen.

    Attributes:
        layout: of all candidates.
        allowed_BVV: bool [B, V, V] on the CPU: of the layout's pairs, those that the rule allows.
        otherwise_B2: int64 [B, 2] on the CPU: the pairs of images that have no allowed one.
    """

    layout: Layout
    allowed_BVV: Tensor
    otherwise_B2: Tensor

    @staticmethod
    def of(rule: PairRule | None, layout: Layout, rows: ViewParams | None) -> AllowedPairs | None:
        """None without a rule.

        Raises:
            SelectionError: candidates without rows, or a rule that returns no such table.
        """
        if rule is None:
            return None
        if rows is None:
            raise SelectionError(
                "allowed= reads the candidates' rows, got candidates without rows; pass params, such as batch.params, or give pairs that "
                "may not be chosen the loss NaN in the objective"
            )
        tables = tables_of(layout, torch.device("cpu"))
        place_B = torch.zeros(rows.batch_size, dtype=torch.int64)
        if rule.otherwise == MOST_OVERLAP:
            place_B = pairwise_iou(rows.box)[:, tables.pair[:, 0], tables.pair[:, 1]].argmax(1)  # of equal ones the first
        return AllowedPairs(layout, table_of(rule.rule, rows) & tables.legal, tables.pair[place_B])

    @cached_property
    def without(self) -> Tensor:
        """bool [B]: images none of whose pairs is allowed."""
        return ~self.allowed_BVV.any(2).any(1)

    @cached_property
    def choosable(self) -> Tensor:
        """bool [B, V, V]: the pairs to choose from, at least one for each image."""
        open_BVV = self.allowed_BVV.clone()
        open_BVV[torch.arange(len(open_BVV)), self.otherwise_B2[:, 0], self.otherwise_B2[:, 1]] |= self.without
        return open_BVV

    def pairs(self, layout: Layout, slots_BK: Tensor | None = None) -> Tensor:
        """The pairs of a layout to choose from: bool [B, P] on the CPU.

        Args:
            layout: of the views that there are.
            slots_BK: int64 [B, K], which of all candidates these are; None if they are all.
        """
        first_P, second_P = tables_of(layout, torch.device("cpu")).pair.unbind(1)
        if slots_BK is None:
            return self.choosable[:, first_P, second_P]
        slots_BK = slots_BK.cpu()
        image_B1 = torch.arange(len(slots_BK))[:, None]
        return self.choosable[image_B1, slots_BK[:, first_P], slots_BK[:, second_P]]

    @property
    def first_slots(self) -> Tensor:
        """int64 [B, K] on the CPU: each image's first pair of those to choose from, and the first local views."""
        return first_of(self.pairs(self.layout), self.layout)


def first_of(open_BP: Tensor, layout: Layout) -> Tensor:
    """int64 [B, K]: each image's first pair to choose from, by slots of the layout, and its first local views."""
    tables = tables_of(layout, open_BP.device)
    pair_B2 = tables.pair[open_BP.to(torch.uint8).argmax(1)]
    return torch.cat([pair_B2, tables.first[2:].expand(len(pair_B2), -1)], dim=1)
