"""The best set of more than two global views, under a loss that is a sum over the pairs of its views.

Up to ``MAX_SETS`` sets an image are all looked at. Of more, a good one is searched for (:mod:`hvs_data.selection.set_search`), for policies
that seek the largest or the smallest loss.
"""

# Axes: B image, G global view, P legal pair, Q set of views, K view of a set, L local view, V view slot.

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from hvs_data.policies.base import Moment, Policy
from hvs_data.rows.layout import MAX_SETS, Layout, Tables
from hvs_data.selection.combinations import Chosen, Listed, Parts, best_combinations, choose_combination, with_first_locals
from hvs_data.selection.set_search import searched

# The most numbers of a table of sets, or of local views beside them, that are made at a time.
_ENTRIES = 2**19  # 4 MiB, which stay in a processor's cache


@dataclass(frozen=True)
class _Sums:
    """What the loss of every set is a sum of.

    Attributes:
        pair: float64 [B, G, G], symmetric: what two views add; NaN where no chosen set may hold both.
        local: float64 [B, G, L], what a local view adds beside each global one; None if none are chosen by their loss.
        foretold: float64 [B, G, G], what is taken off a pair's share before the policy chooses; None for nothing.
        share: what the sum is multiplied by, such as one over the number of terms.
        sets: float64 [B, Q], the loss of every set where it is no sum; None where it is.
    """

    pair: Tensor
    local: Tensor | None
    foretold: Tensor | None
    share: float
    sets: Tensor | None = None

    @staticmethod
    def of(parts: Parts, layout: Layout, tables: Tables) -> _Sums:
        views = len(layout.global_slots)
        foretold = None if parts.foretold is None else between(parts.foretold, views, layout.ordered, tables)
        local = None if parts.local is None else parts.local.to(torch.float64)
        sets = None if parts.sets is None else parts.sets.detach().to(torch.float64)
        return _Sums(between(parts.pair, views, layout.ordered, tables), local, foretold, parts.share, sets)

    def of_sets(self, images: slice, tables: Tables) -> Parts:
        """Every set as one part, as of combinations with pairs a pair is."""
        local = None if self.local is None else self.share * _added(self.local[images], tables.set_place)
        foretold = None if self.foretold is None else self.share * sums_of(self.foretold[images], tables.set_place)
        loss_BQ = self.share * sums_of(self.pair[images], tables.set_place)
        if self.sets is not None:
            loss_BQ = self.sets[images].masked_fill(~loss_BQ.isfinite(), torch.nan)
        return Parts(loss_BQ, local, foretold)

    def loss_of(self, slots_BK: Tensor, layout: Layout, tables: Tables) -> Tensor:
        """The loss of each image's slots, a set and local views: float64 [B]."""
        place_BK = tables.position[slots_BK]
        set_BK, local_BK = place_BK[:, : layout.emitted_globals], place_BK[:, layout.emitted_globals :]
        image_B11 = torch.arange(len(set_BK), device=set_BK.device)[:, None, None]
        if self.sets is not None:
            number_B1 = (set_BK[:, None] == tables.set_place).all(2).to(torch.uint8).argmax(1, keepdim=True)
            return self.sets.gather(1, number_B1)[:, 0]
        chosen_BKK = self.pair[image_B11, set_BK[:, :, None], set_BK[:, None, :]]
        loss_B = sum_of_pairs(chosen_BKK)
        if self.local is not None:
            loss_B = loss_B + self.local[image_B11, set_BK[:, :, None], local_BK[:, None, :]].sum((1, 2))
        return self.share * loss_B


def choose_views(
    parts: Parts,
    layout: Layout,
    tables: Tables,
    policy: Policy,
    moment: Moment,
    listed: Listed | None = None,
    first_BK: Tensor | None = None,
) -> Chosen:
    """Choose for every image a view, a pair or a larger set of global views, and local views. Arguments as of ``choose_combination``."""
    if layout.emitted_globals <= 2:
        return choose_combination(parts, layout, tables, policy, moment, listed, first_BK)
    first_BK = tables.first.expand(len(parts.pair), -1) if first_BK is None else first_BK
    return choose_set(parts, layout, tables, policy, moment, listed, first_BK)


def choose_set(
    parts: Parts, layout: Layout, tables: Tables, policy: Policy, moment: Moment, listed: Listed | None, first_BK: Tensor
) -> Chosen:
    """Choose a set of more than two global views, and local views, for every image. Arguments as of ``choose_combination``, but that
    ``parts.local`` is [B, G, L], of each global view by itself."""
    sums = _Sums.of(parts, layout, tables)
    if layout.num_sets > MAX_SETS:
        judged_BGG = sums.pair if sums.foretold is None else sums.pair - sums.foretold
        place_BK, fits_B = searched(judged_BGG * (-1 if policy.seeks < 0 else 1), layout)
        slots_BK = torch.where(fits_B[:, None], with_first_locals(tables.globals_[place_BK], tables), first_BK)
        loss_B = sums.loss_of(slots_BK, layout, tables).masked_fill(~fits_B, torch.nan)
    else:
        pieces = [
            best_combinations(sums.of_sets(part, tables), layout, tables, policy, moment, listed, first_BK[part])[:2]
            for part in _parts(len(first_BK), layout, policy)
        ]
        slots_BK, loss_B = (torch.cat(piece) for piece in zip(*pieces, strict=True))
    best_B, random_B = loss_B, policy.at_random(len(first_BK), moment, first_BK.device)
    if random_B is not None:
        slots_BK = torch.where(random_B[:, None], first_BK, slots_BK)
        loss_B = torch.where(random_B, sums.loss_of(first_BK, layout, tables), loss_B)
    return Chosen(slots_BK, loss_B, parts.pair, best_B)


def between(value_BP: Tensor, views: int, ordered: bool, tables: Tables) -> Tensor:
    """What is of every legal pair as a table of two global views: float64 [B, G, G], symmetric; where pairs are ordered, the mean of both
    orders; NaN elsewhere."""
    first_P, second_P = tables.place.unbind(1)
    table_BGG = torch.full((len(value_BP), views, views), torch.nan, dtype=torch.float64, device=value_BP.device)
    table_BGG[:, first_P, second_P] = value_BP.to(torch.float64)
    if ordered:
        return (table_BGG + table_BGG.transpose(1, 2)) / 2
    table_BGG[:, second_P, first_P] = value_BP.to(torch.float64)
    return table_BGG


def sums_of(table_BGG: Tensor, set_place_QK: Tensor) -> Tensor:
    """The sum over the pairs of each set: [B, Q] of the table's type, one pair of a set after the other, so that no more than a few tables
    of this size exist at a time."""
    views = table_BGG.shape[-1]
    flat_NB = table_BGG.flatten(1).t().contiguous()  # an entry of all images lies together in memory
    sum_QB = torch.zeros(len(set_place_QK), len(table_BGG), dtype=table_BGG.dtype, device=table_BGG.device)
    for first_Q, second_Q in combinations(set_place_QK.unbind(1), 2):
        sum_QB += flat_NB.index_select(0, first_Q * views + second_Q)
    return sum_QB.t()


def sum_of_pairs(chosen_BKK: Tensor) -> Tensor:
    """The sum over every two of K views: [B]."""
    return sum_in_order([chosen_BKK[:, first, second] for first, second in combinations(range(chosen_BKK.shape[1]), 2)])


def sum_in_order(values: list[Tensor]) -> Tensor:
    total = torch.zeros_like(values[0])
    for value in values:
        total = total + value
    return total


def _added(local_BGL: Tensor, set_place_QK: Tensor) -> Tensor:
    """What each local view adds beside each set: [B, Q, L]."""
    return sum_in_order([local_BGL[:, place_Q] for place_Q in set_place_QK.unbind(1)])


def _parts(images: int, layout: Layout, policy: Policy) -> Iterator[slice]:
    """Images of which a table is made at a time. Policies that draw get all of them, as what they draw belongs to an image's place where
    its rows have no key."""
    entries = layout.num_sets * (1 + (len(layout.local_slots) if layout.chosen_locals else 0))
    each = max(1, _ENTRIES // entries) if policy.seeks else max(1, images)
    return (slice(start, start + each) for start in range(0, max(1, images), each))
