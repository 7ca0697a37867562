"""Selections that do not ask the model."""

# Axes: B image, V view slot, K chosen view.

from __future__ import annotations

import torch
from torch import Tensor

from hvs_data.boxes import pairwise_iou
from hvs_data.errors import SelectionError
from hvs_data.selection.combinations import additive_parts, choose_combination
from hvs_data.selection.layout import Layout, Tables, tables_of
from hvs_data.types import Selection, ViewParams


def first_views(images: int, layout: Layout, params: ViewParams | None, step: int, device: torch.device) -> Selection:
    """The first legal pair and the first local views of every image: random ones, where rows are drawn independently."""
    tables = tables_of(layout, device)
    return _selection(tables.first.expand(images, -1), layout, tables, params, "random", step)


def least_overlap(layout: Layout, params: ViewParams | None, step: int) -> Selection:
    """The views whose boxes overlap least: the smallest sum of IoU over the pairs of views that an additive loss compares. On the CPU.

    Raises:
        SelectionError: no rows.
    """
    if params is None:
        raise SelectionError("policy 'smallest_iou' reads the candidates' boxes, got candidates without rows; pass params")
    tables = tables_of(layout, torch.device("cpu"))
    slots = [*layout.global_slots, *layout.local_slots]
    overlap_BSS = pairwise_iou(params.box[:, slots])
    overlap_BSS = overlap_BSS.masked_fill(torch.eye(len(slots), dtype=torch.bool), 0)
    parts = additive_parts(-overlap_BSS[:, : len(layout.global_slots)], layout, tables)
    chosen = choose_combination(parts, layout, tables, "hardest")
    return _selection(chosen.slots, layout, tables, params, "smallest_iou", step)


def _selection(slots_BK: Tensor, layout: Layout, tables: Tables, params: ViewParams | None, policy: str, step: int) -> Selection:
    device = slots_BK.device
    return Selection(
        pair=slots_BK[:, :2],
        losses=torch.full((len(slots_BK), layout.views, layout.views), torch.nan, dtype=torch.float32, device=device),
        legal=tables.legal,
        non_finite=torch.zeros((), dtype=torch.int64, device=device),
        params=params,
        slots=slots_BK,
        policy=policy,
        scored=False,
        step=step,
    )
