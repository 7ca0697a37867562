"""What a rule on rows leaves of an image's pairs, for all kinds of steps alike."""

# Axes: B image, V view slot, P legal pair of a layout, Q set of views that may be chosen, K chosen or shown view.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import torch
from torch import Tensor

from hvs_data.errors import SelectionError
from hvs_data.policies.base import FIRST, MOST_OVERLAP
from hvs_data.rows.layout import Layout, tables_of
from hvs_data.rules import RowRule, table_of
from hvs_data.selection.combinations import with_first_locals
from hvs_data.selection.sets import sums_of
from hvs_data.types.rows import ViewParams
from hvs_data.types.selection import pairwise_iou


@dataclass(frozen=True)
class PairRule:
    """Which pairs may be chosen.

    Attributes:
        rule: of rows; None for one that allows all.
        otherwise: what an image gets of whose pairs it allows none: FIRST, its first pair, or MOST_OVERLAP, that of the boxes that
            overlap most, in either case of the legal ones that hold its anchor.
        anchor: the view that every pair holds, see :attr:`hvs_data.policies.Policy.anchor`; None for any.
    """

    rule: RowRule | None
    otherwise: str = FIRST
    anchor: Callable[[ViewParams], Tensor] | None = None


@dataclass(frozen=True)
class AllowedPairs:
    """The pairs of some images that may be chosen.

    Attributes:
        layout: of all candidates.
        allowed_BVV: bool [B, V, V] on the CPU: of the layout's pairs, those that the rule allows and that hold the anchor.
        otherwise_BK: int64 [B, K] on the CPU: the pairs of images that have no allowed one; of more than two views, the sets.
        anchor_B: int64 [B] on the CPU, slots; None without an anchor.
    """

    layout: Layout
    allowed_BVV: Tensor
    otherwise_BK: Tensor
    anchor_B: Tensor | None = None

    @staticmethod
    def of(rule: PairRule | None, layout: Layout, rows: ViewParams | None) -> AllowedPairs | None:
        """None without a rule.

        Raises:
            SelectionError: candidates without rows, or a rule that returns no such table.
        """
        if rule is None:
            return None
        if rows is None:
            if rule.rule is None:
                raise SelectionError(
                    "policy 'anchored' reads the candidates' boxes, got candidates without rows; pass params, such as batch.params"
                )
            raise SelectionError(
                "allowed= reads the candidates' rows, got candidates without rows; pass params, such as batch.params, or give pairs that "
                "may not be chosen the loss NaN in the objective"
            )
        tables = tables_of(layout, torch.device("cpu"))
        anchor_B = None if rule.anchor is None else rule.anchor(rows)
        legal_BVV = tables.legal.expand(rows.batch_size, -1, -1) if anchor_B is None else _with_anchor(anchor_B, layout)
        allowed_BVV = legal_BVV if rule.rule is None else table_of(rule.rule, rows) & legal_BVV
        overlaps = rule.otherwise == MOST_OVERLAP
        rank_BVV = pairwise_iou(rows.source_box) if overlaps else torch.zeros(legal_BVV.shape)
        rank_BQ, legal_BQ = sums_of(rank_BVV, tables.sets), _all_held(legal_BVV, layout)
        place_B = rank_BQ.masked_fill(~legal_BQ, -1).argmax(1)  # of equal ones the first
        return AllowedPairs(layout, allowed_BVV, tables.sets[place_B], anchor_B)

    @cached_property
    def without(self) -> Tensor:
        """bool [B]: images none of whose pairs is allowed; of more than two views, no set of allowed pairs alone."""
        return ~_all_held(self.allowed_BVV, self.layout).any(1)

    @cached_property
    def choosable(self) -> Tensor:
        """bool [B, V, V]: the pairs to choose from, or to make sets of, enough for one of each image."""
        otherwise_BVV = torch.zeros_like(self.allowed_BVV)
        chosen = self.otherwise_BK.unbind(1)
        for first_B, second_B in combinations(chosen if len(chosen) > 1 else 2 * chosen, 2):
            otherwise_BVV[torch.arange(len(otherwise_BVV)), first_B, second_B] = True
        if self.layout.ordered and self.layout.emitted_globals > 2:
            otherwise_BVV |= otherwise_BVV.transpose(1, 2).clone()
        return torch.where(self.without[:, None, None], otherwise_BVV, self.allowed_BVV)

    def pairs(self, layout: Layout, slots_BK: Tensor | None = None) -> Tensor:
        """The pairs of a layout to choose from, or to make sets of: bool [B, P] on the CPU.

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

    def oriented(self, slots_BK: Tensor) -> Tensor:
        """Slots of the pair and others, on their device, with the anchor first in the pair, or second where pairs are ordered."""
        if self.anchor_B is None:
            return slots_BK
        anchor_B = self.anchor_B.to(slots_BK.device, non_blocking=True)
        pair_B2 = slots_BK[:, :2]
        turned_B = pair_B2[:, int(self.layout.ordered)] != anchor_B  # and so the other one is
        return torch.cat([torch.where(turned_B[:, None], pair_B2.flip(1), pair_B2), slots_BK[:, 2:]], dim=1)

    @property
    def first_slots(self) -> Tensor:
        """int64 [B, K] on the CPU: each image's first pair or set of those to choose from, and the first local views."""
        return first_of(self.pairs(self.layout), self.layout)


def _all_held(open_BVV: Tensor, layout: Layout) -> Tensor:
    """The pairs or sets of global views all of whose pairs are open, where they are ordered both ways in a set: bool [B, Q]."""
    tables = tables_of(layout, open_BVV.device)
    if layout.emitted_globals <= 2:
        return open_BVV[:, tables.pair[:, 0], tables.pair[:, 1]]
    either_BVV = open_BVV & open_BVV.transpose(1, 2) if layout.ordered else open_BVV | open_BVV.transpose(1, 2)
    return sums_of((~either_BVV).to(torch.int32), tables.sets) == 0


def _with_anchor(anchor_B: Tensor, layout: Layout) -> Tensor:
    """The legal pairs that hold each image's anchor, as the second view where pairs are ordered: bool [B, V, V]."""
    is_anchor_BV = anchor_B[:, None] == torch.arange(layout.views)
    second_BVV = is_anchor_BV[:, None, :].expand(-1, layout.views, -1)
    legal = tables_of(layout, torch.device("cpu")).legal
    return legal & (second_BVV if layout.ordered else second_BVV | second_BVV.transpose(1, 2))


def first_of(open_BP: Tensor, layout: Layout) -> Tensor:
    """int64 [B, K]: each image's first pair or set to choose from, by slots of the layout, and its first local views."""
    tables = tables_of(layout, open_BP.device)
    if layout.emitted_globals <= 2:
        open_BQ = open_BP
    else:
        open_BVV = torch.zeros(len(open_BP), layout.views, layout.views, dtype=torch.bool, device=open_BP.device)
        open_BVV[:, tables.pair[:, 0], tables.pair[:, 1]] = open_BP
        open_BQ = _all_held(open_BVV, layout)
    return with_first_locals(tables.sets[open_BQ.to(torch.uint8).argmax(1)], tables)
