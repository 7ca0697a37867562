"""Candidates as a selector was given them: all of an image's, or those of them that are needed."""

# Axes: B image, V view slot, K needed view.

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hvs_data.forwards.groups import Group, groups_of
from hvs_data.rows.layout import Layout, layout_of, tables_of
from hvs_data.types import Selection, ViewParams


@dataclass(frozen=True)
class Candidates:
    """Candidates as they were given.

    Attributes:
        groups: the views that there are, in groups of one size.
        layout, rows: of these views.
        all_layout, all_rows: of all candidates.
        slots: int64 [B, K], which of all candidates these views are; None if they are all.
    """

    groups: list[Group]
    layout: Layout
    rows: ViewParams | None
    all_layout: Layout
    all_rows: ViewParams | None
    slots: Tensor | None = None


def narrowed(taken: Candidates, slots_BK: Tensor | None, device: torch.device, ordered: bool) -> Candidates:
    """Some slots of all candidates, other ones for each image."""
    assert slots_BK is not None and taken.rows is not None
    rows = taken.rows.take(slots_BK)
    layout = layout_of(rows.num_views, rows, ordered)
    globals_ = len(layout.global_slots)
    place_BK = tables_of(taken.layout, device).position[slots_BK.to(device, non_blocking=True)]
    parts = place_BK[:, :globals_], place_BK[:, globals_:]
    views = [view for group, part in zip(taken.groups, parts, strict=False) for view in group.pick(part)]
    return Candidates(groups_of(views, layout), layout, rows, taken.layout, taken.rows, slots_BK)


def widened(selection: Selection, taken: Candidates, device: torch.device) -> Selection:
    """A selection among some slots, told in terms of all candidates."""
    assert taken.slots is not None
    slots_BK = taken.slots.to(device, non_blocking=True)
    views = taken.all_layout.views
    losses_BVV = torch.full((len(slots_BK), views, views), torch.nan, dtype=torch.float32, device=device)
    image_B11 = torch.arange(len(slots_BK), device=device)[:, None, None]
    losses_BVV[image_B11, slots_BK[:, :, None], slots_BK[:, None, :]] = selection.losses
    chosen_BK = slots_BK.gather(1, selection.slots)
    return replace(
        selection,
        pair=chosen_BK[:, :2],
        slots=chosen_BK,
        losses=losses_BVV,
        legal=tables_of(taken.all_layout, device).legal,
        params=taken.all_rows,
    )
