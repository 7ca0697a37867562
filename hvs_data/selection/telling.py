"""What was chosen, told to the trainer: the selection of a step."""

# Axes: B image, V view slot, P legal pair, K chosen view.

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hvs_data.objectives.base import Outputs, map_outputs
from hvs_data.rows.layout import Layout, Tables, tables_of
from hvs_data.selection.allowed import AllowedPairs
from hvs_data.selection.candidates import Candidates
from hvs_data.selection.combinations import Chosen
from hvs_data.selection.scorer import Scores
from hvs_data.types.rows import ViewParams
from hvs_data.types.selection import Selection


def scored_selection(
    chosen: Chosen,
    scores: Scores,
    layout: Layout,
    params: ViewParams | None,
    policy: str,
    step: int,
    weights: int,
    foretold_BP: Tensor | None = None,
) -> Selection:
    """A selection for which the model was asked.

    Args:
        chosen, scores: of these views.
        layout, params: of these views.
        policy, step, weights: as in :class:`hvs_data.Selection`.
        foretold_BP: what the policy took off each pair's loss; None for nothing.
    """
    tables = tables_of(layout, chosen.slots.device)
    loss_BP = chosen.pair_losses.to(torch.float32)
    views = layout.emitted_globals
    pairs_alone = views <= 2 and not layout.chosen_locals
    if layout.chosen_locals and views == 2:
        loss_BP = loss_BP.where(loss_BP.isfinite(), torch.nan)
    losses_BVV = _by_views(loss_BP, layout, tables)
    return Selection(
        pair=_hardest_of(chosen.slots[:, :views], losses_BVV) if views > 2 else _pair_of(chosen.slots, views),
        losses=losses_BVV,
        legal=tables.legal,
        non_finite=scores.non_finite,
        params=params,
        slots=chosen.slots,
        policy=policy,
        step=step,
        weights=weights,
        num_losses=scores.num_losses,
        output_std=scores.output_std,
        combination_loss=None if pairs_alone else chosen.loss.to(torch.float32),
        global_views=views,
        foretold=None if foretold_BP is None else _by_views(foretold_BP, layout, tables),
    )


def _pair_of(slots_BK: Tensor, views: int) -> Tensor:
    """The first two slots, or the first one twice where one view is chosen: int64 [B, 2]."""
    return slots_BK[:, :2] if views > 1 else slots_BK[:, :1].expand(-1, 2)


def _hardest_of(set_BK: Tensor, losses_BVV: Tensor) -> Tensor:
    """The pair of the largest loss among some views, of equal ones the first: int64 [B, 2]."""
    views = set_BK.shape[1]
    image_B11 = torch.arange(len(set_BK), device=set_BK.device)[:, None, None]
    loss_BKK = losses_BVV[image_B11, set_BK[:, :, None], set_BK[:, None, :]]
    place_B1 = loss_BKK.masked_fill(~loss_BKK.isfinite(), -torch.inf).flatten(1).argmax(1, keepdim=True)
    place_B1 = place_B1.where(loss_BKK.isfinite().flatten(1).any(1, keepdim=True), 1)  # the first two
    return set_BK.gather(1, torch.cat([place_B1 // views, place_B1 % views], dim=1))


def _by_views(value_BP: Tensor, layout: Layout, tables: Tables) -> Tensor:
    """[B, P] as a table of two views, NaN elsewhere: float32 [B, V, V]."""
    table_BVV = torch.full((len(value_BP), layout.views, layout.views), torch.nan, dtype=torch.float32, device=value_BP.device)
    first_P, second_P = tables.pair.unbind(1)
    table_BVV[:, first_P, second_P] = value_BP
    if not layout.ordered:
        table_BVV[:, second_P, first_P] = value_BP
    return table_BVV


def unscored_selection(slots_BK: Tensor, layout: Layout, params: ViewParams | None, policy: str, step: int) -> Selection:
    """A selection of these slots, on their device, for which the model was not asked."""
    device = slots_BK.device
    return Selection(
        pair=_pair_of(slots_BK, layout.emitted_globals),
        losses=torch.full((len(slots_BK), layout.views, layout.views), torch.nan, dtype=torch.float32, device=device),
        legal=tables_of(layout, device).legal,
        non_finite=torch.zeros((), dtype=torch.int64, device=device),
        params=params,
        slots=slots_BK,
        policy=policy,
        scored=False,
        step=step,
        global_views=layout.emitted_globals,
    )


def with_slots(selection: Selection, slots_BK: Tensor) -> Selection:
    """The same of these slots, a pair first where it is one that was chosen."""
    views = selection.global_views
    return replace(selection, pair=selection.pair if views > 2 else _pair_of(slots_BK, views), slots=slots_BK)


def with_teacher(selection: Selection, teacher: Outputs, given: Candidates) -> Selection:
    """The same with what the teacher gave for the chosen global views, of its outputs [B, T, ...] for those that were given."""
    if teacher is None:
        return selection
    place_BK = given.places(selection.slots[:, : selection.global_views])
    image_B = torch.arange(len(place_BK), device=place_BK.device)
    kept = map_outputs(lambda output_BT: torch.cat([output_BT[image_B, place_B] for place_B in place_BK.unbind(1)]), teacher)
    return replace(selection, teacher_outputs=kept)


def with_allowed(selection: Selection, allowed: AllowedPairs | None) -> Selection:
    """The same with the pairs that the rule allows and that hold the anchor."""
    if allowed is None:
        return selection
    table_BVV = allowed.allowed_BVV.to(selection.pair.device, non_blocking=True)
    return replace(selection, allowed=table_BVV, none_allowed=int(allowed.without.sum()))  # on the CPU, as rows are


def widened(selection: Selection, given: Candidates) -> Selection:
    """A selection among some slots, told in terms of all candidates."""
    if given.slots is None:
        return selection
    device = selection.pair.device
    slots_BK = given.slots.to(device, non_blocking=True)
    views = given.all_layout.views
    image_B11 = torch.arange(len(slots_BK), device=device)[:, None, None]

    def among_all(table_BKK: Tensor) -> Tensor:
        table_BVV = torch.full((len(slots_BK), views, views), torch.nan, dtype=torch.float32, device=device)
        table_BVV[image_B11, slots_BK[:, :, None], slots_BK[:, None, :]] = table_BKK
        return table_BVV

    return replace(
        selection,
        pair=slots_BK.gather(1, selection.pair),
        slots=slots_BK.gather(1, selection.slots),
        losses=among_all(selection.losses),
        legal=tables_of(given.all_layout, device).legal,
        params=given.all_rows,
        foretold=None if selection.foretold is None else among_all(selection.foretold),
    )
