"""Large JPEG files decoded at a half, a quarter or an eighth of their size, where every view of the image is smaller still.

A JPEG decoder gets a smaller image by an inverse transform of fewer coefficients, which also leaves out most of the work behind it. The
pixels are close to those of decoding in full and resizing, not equal: another low-pass filter, and boxes rounded to the smaller grid.
"""

# Axes: B image, V view.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hvs_data.arguments.sizes import Size, height_width
from hvs_data.types.rows import ViewParams

DENOMINATORS = (8, 4, 2)


def denominator_for(params: ViewParams, sizes_V: Sequence[Size]) -> int:
    """The strongest reduction that leaves every view of these images with at least a pixel of its box for each of its own.

    Args:
        params: rows [B, V].
        sizes_V: size in pixels at which each slot is rendered at most.

    Returns:
        1, 2, 4 or 8.
    """
    side_BV2 = params.box[..., 2:]
    if params.resized is not None and params.image_size is not None:
        # in source pixels; of what the box holds beside the image, as many
        zoom_BV2 = params.image_size[:, None] / params.resized
        side_BV2 = torch.where(params.resized > 0, side_BV2 * zoom_BV2, side_BV2)
    room = (side_BV2 // torch.tensor([height_width(size) for size in sizes_V], dtype=torch.int32)).min()
    return next((denominator for denominator in DENOMINATORS if room >= denominator), 1)


def boxes_in_decoded(params: ViewParams, denominator_B: Tensor, sizes_B: Sequence[Sequence[int]]) -> ViewParams:
    """Rows for images that were decoded at a fraction of the size with which the rows were drawn.

    Args:
        params: rows [B, V], boxes in pixels of the full size.
        denominator_B: int64; an image has 1 / denominator of its full size, rounded up.
        sizes_B: height and width of the decoded images.

    Returns:
        the same rows with boxes in pixels of the decoded images, at least one pixel each way; the very same where all are in full. Boxes in
        a resized image stay as they are, since that image's size is not a share of the decoded one's.
    """
    if not len(sizes_B) or int(denominator_B.max()) == 1:
        return params
    start_BV2, length_BV2 = params.box.to(torch.float64).split(2, dim=-1)
    stop_BV2 = ((start_BV2 + length_BV2) / denominator_B[:, None, None]).round()
    start_BV2 = (start_BV2 / denominator_B[:, None, None]).round()
    last_B12 = torch.tensor([tuple(size) for size in sizes_B], dtype=torch.float64)[:, None]
    start_BV2 = start_BV2.minimum(last_B12 - 1)
    stop_BV2 = stop_BV2.minimum(last_B12).maximum(start_BV2 + 1)
    box_BV4 = torch.cat([start_BV2, stop_BV2 - start_BV2], dim=-1).to(torch.int32)
    if params.resized is not None:
        box_BV4 = torch.where(params.resized[..., :1] > 0, params.box, box_BV4)
    return replace(params, box=box_BV4)
