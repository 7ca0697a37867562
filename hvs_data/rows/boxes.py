"""How much crop boxes overlap."""

from __future__ import annotations

from torch import Tensor

from hvs_data.types.rows import ViewParams
from hvs_data.types.selection import pairwise_iou


def iou(params: ViewParams) -> Tensor:
    """Intersection over union of every two views' boxes in the source image.

    Args:
        params: rows [B, V].

    Returns:
        float32 [B, V, V], symmetric, 1 on the diagonal. Flips of the pixels do not count.
    """
    return pairwise_iou(params.source_box)
