"""Renders with the Triton kernels into watched memory, on CPU tensors in Triton's interpreter, and judges what comes out.

Imports triton, whose interpreter must have been chosen before: for tests that run in a process of their own.
"""

# Axes: B image, V view, C channel, H W pixels.

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

import interpreted
import numba_rendering
from hvs_data.arguments.sizes import Size, height_width
from hvs_data.kernels.render.canvas import Canvas
from hvs_data.kernels.render.triton import render
from hvs_data.types import ViewParams
from numba_rendering import BLUR_CUTOFF, watched
from render_bounds import U32, assert_within

interpreted.take_indices()

# Half of the distance of two 16-bit values; before, a product, and after, a rounded factor and a product.
KEPT = 0.5 / 65535 + 3 * U32
# Between the two passes of a blur, values are kept once more, and the second pass' weights sum to one.
BLURRED = BLUR_CUTOFF + KEPT


def rendered(
    images: Sequence[Tensor],
    params: ViewParams,
    size: Size,
    dtype: torch.dtype = torch.float32,
    *,
    normalize: bool | None = None,
    channels_last: bool = False,
    image_major: bool = False,
) -> Tensor:
    """Pixels [B, V, 3, H, W], checked for having been written, all of them and nothing beside them; arguments as ``render_views``."""

    def into(canvas: Canvas, normalize: bool) -> None:
        render.render_views(images, params, canvas, normalize=normalize)

    shape = params.num_views, len(images), size
    return watched(into, *shape, dtype, normalize=normalize, channels_last=channels_last, image_major=image_major)


def judged(images: Sequence[Tensor], params: ViewParams, size: Size, *, normalize: bool = True) -> tuple[Tensor, Tensor]:
    """The reference's pixels in float64, and how far the kernels may be off, both [B, V, 3, H, W]."""
    # in whatever order a tile's values are summed, and then the tiles' sums; the quotient may be off by two more units on a GPU
    height, width = height_width(size)
    tiles = -(-height // render.TILE_Y) * -(-width // render.TILE_X)
    terms = render.TILE_Y * render.TILE_X + tiles + 2
    return numba_rendering.judged(images, params, size, normalize=normalize, mean_terms=terms, blur_gap=BLURRED, kept_gap=KEPT)


def assert_judged(images: Sequence[Tensor], params: ViewParams, size: Size) -> None:
    """The kernels' float32 views are the reference's."""
    assert_within(rendered(images, params, size), *judged(images, params, size))
