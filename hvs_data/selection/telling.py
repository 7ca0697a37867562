"""What was chosen, told to the trainer: the selection of a step."""

# Axes: B image, V view slot, P legal pair, K chosen view.

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hvs_data.objectives.base import Outputs, map_outputs
from hvs_data.rows.layout import Layout, tables_of
from hvs_data.selection.allowed import AllowedPairs
from hvs_data.selection.candidates import Candidates
from hvs_data.selection.combinations import Chosen
from hvs_data.types import Selection, ViewParams


def scored_selection(
    chosen: Chosen, layout: Layout, params: ViewParams | None, non_finite: Tensor, policy: str, step: int, weights: int
) -> Selection:
    """A selection for which the model was asked.

    Args:
        chosen: of these views.
        layout, params: of these views.
        non_finite, policy, step, weights: as in :class:`hvs_data.Selection`.
    """
    device = chosen.slots.device
    tables = tables_of(layout, device)
    losses_BVV = torch.full((len(chosen.slots), layout.views, layout.views), torch.nan, dtype=torch.float32, device=device)
    loss_BP = chosen.pair_losses.to(torch.float32)
    if layout.emitted_locals:
        loss_BP = loss_BP.where(loss_BP.isfinite(), torch.nan)
    first_P, second_P = tables.pair.unbind(1)
    losses_BVV[:, first_P, second_P] = loss_BP
    if not layout.ordered:
        losses_BVV[:, second_P, first_P] = loss_BP
    return Selection(
        pair=chosen.slots[:, :2],
        losses=losses_BVV,
        legal=tables.legal,
        non_finite=non_finite,
        params=params,
        slots=chosen.slots,
        policy=policy,
        step=step,
        weights=weights,
        combination_loss=chosen.loss.to(torch.float32) if layout.emitted_locals else None,
    )


def unscored_selection(slots_BK: Tensor, layout: Layout, params: ViewParams | None, policy: str, step: int) -> Selection:
    """A selection of these slots, on their device, for which the model was not asked."""
    device = slots_BK.device
    return Selection(
        pair=slots_BK[:, :2],
        losses=torch.full((len(slots_BK), layout.views, layout.views), torch.nan, dtype=torch.float32, device=device),
        legal=tables_of(layout, device).legal,
        non_finite=torch.zeros((), dtype=torch.int64, device=device),
        params=params,
        slots=slots_BK,
        policy=policy,
        scored=False,
        step=step,
    )


def with_slots(selection: Selection, slots_BK: Tensor) -> Selection:
    """The same of these slots, the pair first."""
    return replace(selection, pair=slots_BK[:, :2], slots=slots_BK)


def with_teacher(selection: Selection, teacher: Outputs, given: Candidates) -> Selection:
    """The same with what the teacher gave for the chosen pair, of its outputs [B, T, ...] for the global views that were given."""
    if teacher is None:
        return selection
    place_B2 = given.places(selection.pair)
    image_B = torch.arange(len(place_B2), device=place_B2.device)
    kept = map_outputs(lambda output_BT: torch.cat([output_BT[image_B, place_B] for place_B in place_B2.unbind(1)]), teacher)
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
    losses_BVV = torch.full((len(slots_BK), views, views), torch.nan, dtype=torch.float32, device=device)
    image_B11 = torch.arange(len(slots_BK), device=device)[:, None, None]
    losses_BVV[image_B11, slots_BK[:, :, None], slots_BK[:, None, :]] = selection.losses
    chosen_BK = slots_BK.gather(1, selection.slots)
    return replace(
        selection,
        pair=chosen_BK[:, :2],
        slots=chosen_BK,
        losses=losses_BVV,
        legal=tables_of(given.all_layout, device).legal,
        params=given.all_rows,
    )
