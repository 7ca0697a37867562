"""The choice of the boxes that overlap least."""

# Axes: B image, K chosen view, S slot.

from __future__ import annotations

import torch
from torch import Tensor

from hvs_data.policies.base import Moment
from hvs_data.policies.extremes import Hardest
from hvs_data.rows.layout import Layout, tables_of
from hvs_data.selection.allowed import AllowedPairs
from hvs_data.selection.combinations import additive_parts
from hvs_data.selection.sets import choose_views
from hvs_data.types.rows import ViewParams
from hvs_data.types.selection import pairwise_iou


def least_overlap(layout: Layout, params: ViewParams, allowed: AllowedPairs | None = None) -> Tensor:
    """The views whose boxes overlap least: the smallest sum of IoU over the pairs of views that an additive loss compares, among the
    allowed pairs.

    Returns:
        Slots, int64 [B, K] on the CPU.
    """
    tables = tables_of(layout, torch.device("cpu"))
    slots = [*layout.global_slots, *layout.local_slots]
    overlap_BSS = pairwise_iou(params.source_box[:, slots])
    overlap_BSS = overlap_BSS.masked_fill(torch.eye(len(slots), dtype=torch.bool), 0)
    parts = additive_parts(-overlap_BSS[:, : len(layout.global_slots)], layout, tables)
    if allowed is not None:
        parts = parts.only(allowed.pairs(layout))
    return choose_views(parts, layout, tables, Hardest(), Moment(0)).slots
