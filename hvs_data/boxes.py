"""Geometry of crop boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hvs_data.types import ViewParams


def iou(params: ViewParams) -> Tensor:
    """Intersection over union of every two views' boxes in the source image.

    Args:
        params: rows [B, V].

    Returns:
        float32 [B, V, V], symmetric, 1 on the diagonal. Flips of the pixels do not count.
    """
    return pairwise_iou(params.box)


def pairwise_iou(box_BV4: Tensor) -> Tensor:
    """The same for boxes: integer [..., V, 4] as (top, left, height, width) -> float32 [..., V, V]."""
    top, left, height, width = box_BV4.to(torch.int64).unbind(-1)

    def overlap(start: Tensor, length: Tensor) -> Tensor:
        end = start + length
        shared = torch.minimum(end[..., :, None], end[..., None, :]) - torch.maximum(start[..., :, None], start[..., None, :])
        return shared.clamp_min(0)

    intersection = overlap(top, height) * overlap(left, width)
    area = height * width
    union = area[..., :, None] + area[..., None, :] - intersection
    return (intersection.to(torch.float64) / union.to(torch.float64)).to(torch.float32)
