"""What every renderer may take for granted: rows that fit their images."""

# Axes: B image, V view.

from __future__ import annotations

import torch

from hvs_data.errors import HvsError
from hvs_data.types import ImageBatch, ViewParams

INTERPOLATIONS = ("bilinear", "bicubic")


def check_request(batch: ImageBatch, params: ViewParams, size: int) -> None:
    """Refuse a rendering that cannot be done.

    Raises:
        HvsError: rows of another number of images, boxes that leave their image, a size below 1, an unknown interpolation.
    """
    if len(batch) != params.batch_size:
        raise HvsError(f"expected rows of {len(batch)} images, one for each image, got rows of {params.batch_size}; see ViewParams.images")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise HvsError(f"size must be at least 1, got {size!r}; it is the side of a rendered view in pixels")
    if params.spec.interpolation not in INTERPOLATIONS:
        raise HvsError(f"interpolation must be one of {INTERPOLATIONS}, got {params.spec.interpolation!r}; both are antialiased")
    top_BV, left_BV, height_BV, width_BV = params.box.to(torch.int64).unbind(-1)
    below = (top_BV < 0) | (height_BV < 1) | (top_BV + height_BV > batch.height[:, None])
    beside = (left_BV < 0) | (width_BV < 1) | (left_BV + width_BV > batch.width[:, None])
    if (below | beside).any():
        b, v = (below | beside).nonzero()[0].tolist()
        raise HvsError(
            f"boxes (top, left, height, width) must hold pixels of their image only, got {tuple(params.box[b, v].tolist())} for view {v} "
            f"of image {b}, which is {batch.height[b]} x {batch.width[b]}; sample the rows with the sizes of these images"
        )
