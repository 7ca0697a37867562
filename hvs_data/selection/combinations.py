"""The best of all combinations of a pair (or a larger set) of global views with local ones, from what each part adds to the loss."""

# Axes: B image, P legal pair, Q set of global views, L local view, l chosen local view, M listed combination, T global view,
# S student's view.

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from itertools import product as pairs_of
from math import comb

import numpy as np
import torch
from torch import Tensor

from hvs_data.drawing.steps import WHAT, unit_numbers
from hvs_data.errors import SelectionError
from hvs_data.policies.base import Moment, Policy
from hvs_data.rows.layout import Layout, Tables

# The most combinations of which a list is made without being asked to.
MAX_LISTED = 4096


@dataclass(frozen=True)
class Parts:
    """What the parts of a combination add to an image's loss.

    Attributes:
        pair: floating [B, P], each legal pair by itself.
        local: floating [B, P, L], each local view beside each pair; None if no local views are chosen. Where sets of more than two
            global views are chosen, [B, G, L], each local view beside each global one.
        foretold: floating [B, P], what is taken off the loss of every combination with a pair before the policy chooses; None for nothing.
        share: of sets of more than two, what the sum over pairs and local views is multiplied by to give the loss.
        sets: floating [B, Q], the loss of every set where it is no such sum; None where it is.
    """

    pair: Tensor
    local: Tensor | None = None
    foretold: Tensor | None = None
    share: float = 1.0
    sets: Tensor | None = None

    def only(self, open_BP: Tensor) -> Parts:
        """The same with NaN for pairs that may not be chosen."""
        return replace(self, pair=self.pair.masked_fill(~open_BP, torch.nan))

    def judged(self, loss_BM: Tensor, pair_M: Tensor | None = None) -> Tensor:
        """What the policy is told of combinations with these losses and pairs: floating [B, M]; pair_M is None for each pair once."""
        if self.foretold is None:
            return loss_BM
        return loss_BM - (self.foretold if pair_M is None else self.foretold[:, pair_M])


@dataclass(frozen=True)
class Listed:
    """Combinations in a list.

    Attributes:
        pair: int64 [M], places in the layout's pairs, or sets.
        local: int64 [M, l], rising places among the local slots.
    """

    pair: Tensor
    local: Tensor


@dataclass(frozen=True)
class Chosen:
    """What was chosen for every image.

    Attributes:
        slots: int64 [B, K], the pair (or set) and the local views by number.
        loss: floating [B], the combination's.
        pair_losses: floating [B, P], of the hardest combination with each pair (the easiest, where that is sought) of those that
            were considered; not finite where there is none. Of sets of more than two, each pair's own.
        best: floating [B], what the policy chose before anything was left to chance; not finite where nothing was.
    """

    slots: Tensor
    loss: Tensor
    pair_losses: Tensor
    best: Tensor


def additive_parts(table_BTS: Tensor, layout: Layout, tables: Tables) -> Parts:
    """The parts of a loss that is a sum over (teacher's view, student's view), see ``AdditiveObjective.term_table``.

    They are summed in float64, whose rounding is far below that of the float32 terms. Where pairs are ordered, the first view is the
    teacher's alone and the second the student's.
    """
    table_BTS = table_BTS.to(torch.float64)
    first_P, second_P = tables.place.unbind(1)
    local_BTL = table_BTS[..., len(layout.global_slots) :] if layout.chosen_locals else None
    if layout.ordered:
        return Parts(table_BTS[:, first_P, second_P], None if local_BTL is None else local_BTL[:, first_P])
    if layout.emitted_globals > 2:
        # what a view adds by itself, in equal parts with each of the others
        own_BT = table_BTS.diagonal(dim1=1, dim2=2) / (layout.emitted_globals - 1)
        return Parts(
            table_BTS[:, first_P, second_P] + table_BTS[:, second_P, first_P] + own_BT[:, first_P] + own_BT[:, second_P], local_BTL
        )
    pair_BP = sum(table_BTS[:, i, j] for i, j in pairs_of((first_P, second_P), repeat=2))
    assert isinstance(pair_BP, Tensor)
    return Parts(pair_BP, None if local_BTL is None else local_BTL[:, first_P] + local_BTL[:, second_P])


def pair_parts(losses_BGG: Tensor, local_BGL: Tensor | None, layout: Layout, tables: Tables, local_weight: float) -> Parts:
    """The parts of a loss of pairs: the mean over all pairs of the chosen global views and, with weights, over each with each local one.

    Args:
        losses_BGG, local_BGL: the losses of every pair of global views, and of every local view beside each.
        local_weight: of a local view beside a global one, a pair's being 1.
    """
    first_P, second_P = tables.place.unbind(1)
    pair_BP = losses_BGG.detach()[:, first_P, second_P].to(torch.float32)
    pairs = max(1, comb(layout.emitted_globals, 2))
    if local_BGL is None:
        return Parts(pair_BP, share=1 / pairs)
    share = 1 / (pairs + local_weight * layout.emitted_globals * layout.chosen_locals)
    pair_BP, local_BGL = pair_BP.to(torch.float64), local_weight * local_BGL.detach().to(torch.float64)
    if layout.emitted_globals > 2:
        return Parts(pair_BP, local_BGL, share=share)
    return Parts(share * pair_BP, share * (local_BGL[:, first_P] + local_BGL[:, second_P]))


def choose_combination(
    parts: Parts,
    layout: Layout,
    tables: Tables,
    policy: Policy,
    moment: Moment,
    listed: Listed | None = None,
    first_BK: Tensor | None = None,
) -> Chosen:
    """Choose a combination for every image.

    Args:
        parts: what the combinations are made of.
        layout, tables: of the candidates.
        policy, moment: what chooses, and when.
        listed: the combinations to choose from; None for all of them, of which the best one is found without listing them.
        first_BK: int64 [B, K], the slots of images that have no finite value or are left to chance; None for the layout's first pair
            and local views.
    """
    first_BK = tables.first.expand(len(parts.pair), -1) if first_BK is None else first_BK
    slots_BK, best_B, value_BM = best_combinations(parts, layout, tables, policy, moment, listed, first_BK)
    pair_losses_BP = value_BM if listed is None else _by_pair(value_BM, listed.pair, parts.pair.shape[1], policy)
    random_B = policy.at_random(len(parts.pair), moment, parts.pair.device)
    if random_B is None:
        return Chosen(slots_BK, best_B, pair_losses_BP, best_B)
    loss_B = torch.where(random_B, _loss_of(first_BK, parts, tables), best_B)
    return Chosen(torch.where(random_B[:, None], first_BK, slots_BK), loss_B, pair_losses_BP, best_B)


def best_combinations(
    parts: Parts, layout: Layout, tables: Tables, policy: Policy, moment: Moment, listed: Listed | None, first_BK: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What a policy chooses by its losses alone; arguments as of :func:`choose_combination`, a set of global views in place of a pair.

    Returns:
        Slots, int64 [B, K], and their losses, floating [B]; and the losses that were considered: of the listed combinations, or of the
        best one with each pair or set.
    """
    image_B = torch.arange(len(parts.pair), device=parts.pair.device)
    if listed is not None:
        local_BML = 0 if parts.local is None else parts.local[:, listed.pair[:, None], listed.local].sum(-1)
        value_BM = parts.pair[:, listed.pair] + local_BML
        best_B = policy.choose(parts.judged(value_BM, listed.pair), moment)
        slots_BK = with_first_locals(torch.cat([tables.sets[listed.pair], tables.local[listed.local]], dim=1)[best_B], tables)
        slots_BK = torch.where(value_BM.isfinite().any(1, keepdim=True), slots_BK, first_BK)
        return slots_BK, value_BM[image_B, best_B], value_BM
    if parts.local is None:
        best_B = policy.choose(parts.judged(parts.pair), moment)
        slots_BK = with_first_locals(tables.sets[best_B], tables)
        slots_BK = torch.where(parts.pair.isfinite().any(1, keepdim=True), slots_BK, first_BK)
        return slots_BK, parts.pair[image_B, best_B], parts.pair
    local_BPl = _best_locals(parts.local, layout.chosen_locals, policy)
    value_BP = parts.pair + parts.local.gather(2, local_BPl).sum(-1)
    best_B = policy.choose(parts.judged(value_BP), moment)
    slots_BK = torch.cat([tables.sets[best_B], tables.local[local_BPl[image_B, best_B]]], dim=1)
    slots_BK = torch.where(value_BP.isfinite().any(1, keepdim=True), slots_BK, first_BK)
    return slots_BK, value_BP[image_B, best_B], value_BP


def with_first_locals(slots_BK: Tensor, tables: Tables) -> Tensor:
    """Chosen slots with the first local views behind them, where these are not chosen."""
    missing = tables.first[slots_BK.shape[1] :]
    return slots_BK if not len(missing) else torch.cat([slots_BK, missing.expand(len(slots_BK), -1)], dim=1)


def _loss_of(slots_BK: Tensor, parts: Parts, tables: Tables) -> Tensor:
    """The loss of some combinations: floating [B]."""
    image_B = torch.arange(len(slots_BK), device=slots_BK.device)
    views = tables.sets.shape[1]
    place_B = (slots_BK[:, None, :views] == tables.sets).all(2).to(torch.uint8).argmax(1)
    loss_B = parts.pair[image_B, place_B]
    if parts.local is None:
        return loss_B
    return loss_B + parts.local[image_B, place_B].gather(1, tables.position[slots_BK[:, views:]]).sum(1)


def _best_locals(local_BPL: Tensor, chosen: int, policy: Policy) -> Tensor:
    """The local views that add most to each pair's loss (where the smallest is sought, least), of equals the first: int64 [B, P, l],
    rising."""
    hardest = policy.seeks >= 0
    value_BPL = local_BPL.masked_fill(~local_BPL.isfinite(), -torch.inf if hardest else torch.inf)
    order_BPL = value_BPL.sort(dim=2, descending=hardest, stable=True).indices
    return order_BPL[..., :chosen].sort(dim=2).values


def _by_pair(value_BM: Tensor, pair_M: Tensor, pairs: int, policy: Policy) -> Tensor:
    """[B, P]: the largest finite value (where the smallest is sought, that) of each pair's combinations, NaN if there is none."""
    sign = -1 if policy.seeks < 0 else 1
    signed_BM = (sign * value_BM).masked_fill(~value_BM.isfinite(), -torch.inf)
    of_pair_PM = pair_M == torch.arange(pairs, device=pair_M.device)[:, None]
    best_BP = torch.stack([signed_BM.masked_fill(~of_pair_M, -torch.inf).amax(1) for of_pair_M in of_pair_PM], dim=1)
    return torch.where(best_BP.isfinite(), sign * best_BP, torch.nan)


def listed_combinations(layout: Layout, policy: Policy, limit: int | None, moment: Moment, device: torch.device) -> Listed | None:
    """The combinations that are considered in one step, if they must be listed.

    Args:
        layout: of the candidates.
        policy: policies that rank combinations need a list where there are local views.
        limit: the most combinations, drawn anew in every step, the same for all images and ranks; None for no bound.
        moment: of the draw.
        device: where the list goes, without waiting.

    Raises:
        SelectionError: a policy that would have to list more than ``MAX_LISTED`` combinations.
    """
    if limit is not None and limit < layout.combinations:
        return _on_device(*_sampled(layout, limit, moment), device)
    if not policy.lists or not layout.chosen_locals:
        return None
    if layout.combinations > MAX_LISTED:
        raise SelectionError(
            f"policy {policy.name!r} ranks all combinations of global and local views, and there are {layout.combinations}; set limit= to "
            f"sample some of them, at most {MAX_LISTED} are listed without it"
        )
    locals_ = combinations(range(len(layout.local_slots)), layout.chosen_locals)
    pair_M, local_Ml = zip(*pairs_of(range(layout.num_sets), locals_), strict=True)
    return _on_device(np.array(pair_M), np.array(local_Ml).reshape(len(pair_M), -1), device)


def _sampled(layout: Layout, limit: int, moment: Moment) -> tuple[np.ndarray, np.ndarray]:
    """Different combinations, each drawn with the same probability: pairs [M] and local views [M, l]."""
    locals_, chosen = len(layout.local_slots) if layout.scores_locals else 0, layout.chosen_locals
    rows: dict[bytes, np.ndarray] = {}
    stream = 0
    while len(rows) < limit:
        unit = unit_numbers(moment.seed, moment.step, WHAT, 2 * limit * (1 + locals_), stream).reshape(2 * limit, 1 + locals_)
        pair_N = (unit[:, 0] * layout.num_sets).astype(np.int64)
        local_Nl = np.sort(unit[:, 1:].argsort(axis=1, kind="stable")[:, :chosen], axis=1)
        for row in np.column_stack([pair_N, local_Nl]):
            rows.setdefault(row.tobytes(), row)
        stream += 1
    drawn = np.stack(list(rows.values())[:limit])
    return drawn[:, 0], drawn[:, 1:]


def _on_device(pair_M: np.ndarray, local_Ml: np.ndarray, device: torch.device) -> Listed:
    pair, local = (torch.from_numpy(np.ascontiguousarray(places, dtype=np.int64)) for places in (pair_M, local_Ml))
    return Listed(pair.to(device, non_blocking=True), local.to(device, non_blocking=True))
