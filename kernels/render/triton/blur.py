"""Kernels (c) and (d): Gaussian blur with reflected borders of those views that have one, and their end.

Either blurs along the slower of its memory's two axes, where neighbours lie apart by whole rows: all loads are wide and aligned, and
reflecting a row costs one step for all its pixels. Then it turns its tile: kernel (c) blurs down and stores columns as rows, so that
kernel (d) blurs across by the same code and stores the view upright.
"""

# mypy: disable-error-code="no-untyped-def"
# Axes: M row with a blur, N row (one view), C channel, H W pixels of a view, R radius, S F slow and fast axis of a tile.

from __future__ import annotations

import triton
import triton.language as tl

from hvs_data.kernels.render.triton.store import keep, put, solarized
from hvs_data.kernels.render.triton.tables import IS_GRAY, LEVELS, OUT, PLACES, SOLARIZE, TIMES_FACTOR, TIMES_SUM, WHOLES


@triton.jit
def _pixels(source, inside):
    """Kept values as whole numbers: the sum of two is exact."""
    return tl.load(source, mask=inside, other=0).to(tl.int32)


@triton.jit
def _blurred(plane, weights, radius, slow, fast, size_slow: tl.constexpr, size_fast: tl.constexpr):
    """Sums [S, F] of kept values, times ``1 / TIMES_SUM``."""
    last: tl.constexpr = size_slow - 1
    slow = tl.minimum(slow, last)[:, None]
    plane += fast[None, :]
    inside = (fast < size_fast)[None, :]
    centre = _pixels(plane + slow * size_fast, inside).to(tl.float32, bitcast=True)
    value = tl.load(weights) * TIMES_FACTOR * centre
    for k in range(1, radius + 1):
        before = tl.abs(slow - k)
        after = last - tl.abs(last - k - slow)
        pair = _pixels(plane + before * size_fast, inside) + _pixels(plane + after * size_fast, inside)
        value += tl.load(weights + k) * TIMES_FACTOR * pair.to(tl.float32, bitcast=True)
    return value


@triton.jit
def blur_down(
    rows,
    radii,
    weights,
    weight_stride,
    whole,
    scratch,
    turned,
    size_y: tl.constexpr,
    size_x: tl.constexpr,
    tile: tl.constexpr,
):
    """One tile of one channel of one of the rows [M]; the programs are [M, 3, tiles].

    radii: int32 [M], from 1 to below H and W. weights: float32 [M, weight_stride], of distances 0 to R. whole: see tables.py. scratch:
    uint16 [N, 3, H, W]; turned: uint16 [M, 3, W, H], written. The channels of a grey row are equal: only the first one is blurred.
    """
    tiles_x: tl.constexpr = (size_x + tile - 1) // tile
    tiles: tl.constexpr = tiles_x * ((size_y + tile - 1) // tile)
    m = (tl.program_id(0) // (3 * tiles)).to(tl.int64)
    channel = tl.program_id(0) // tiles % 3
    number = tl.program_id(0) % tiles
    row = tl.load(rows + m).to(tl.int64)
    if (tl.load(whole + row * WHOLES + IS_GRAY) != 0) & (channel != 0):
        return
    y = number // tiles_x * tile + tl.arange(0, tile)
    x = number % tiles_x * tile + tl.arange(0, tile)
    plane: tl.constexpr = size_y * size_x
    source = scratch + (row * 3 + channel) * plane
    value = _blurred(source, weights + m * weight_stride, tl.load(radii + m), y, x, size_y, size_x)
    to = turned + (m * 3 + channel) * plane + x[:, None] * size_y + y[None, :]
    keep(tl.trans(value) * TIMES_SUM, to, (x < size_x)[:, None] & (y < size_y)[None, :])


@triton.jit
def blur_across(
    rows,
    radii,
    weights,
    weight_stride,
    place,
    whole,
    turned,
    out,
    threshold,
    scale_red,
    scale_green,
    scale_blue,
    bias_red,
    bias_green,
    bias_blue,
    channel_stride,
    pixel_stride,
    size_y: tl.constexpr,
    size_x: tl.constexpr,
    tile: tl.constexpr,
    unit: tl.constexpr,
):
    """As ``blur_down``, from ``turned`` to the canvas; ``out`` and the numbers as in resize.py."""
    tiles_x: tl.constexpr = (size_x + tile - 1) // tile
    tiles: tl.constexpr = tiles_x * ((size_y + tile - 1) // tile)
    m = (tl.program_id(0) // (3 * tiles)).to(tl.int64)
    channel = tl.program_id(0) // tiles % 3
    number = tl.program_id(0) % tiles
    row = tl.load(rows + m).to(tl.int64)
    whole += row * WHOLES
    gray = tl.load(whole + IS_GRAY) != 0
    if gray & (channel != 0):
        return
    y = number // tiles_x * tile + tl.arange(0, tile)
    x = number % tiles_x * tile + tl.arange(0, tile)
    plane: tl.constexpr = size_y * size_x
    source = turned + (m * 3 + channel) * plane
    value = _blurred(source, weights + m * weight_stride, tl.load(radii + m), x, y, size_x, size_y)
    value = tl.trans(value) * (TIMES_SUM / LEVELS)
    if tl.load(whole + SOLARIZE) != 0:
        value = solarized(value, threshold)
    out += tl.load(place + row * PLACES + OUT) * unit + (y[:, None] * size_x + x[None, :]) * pixel_stride
    inside = (y < size_y)[:, None] & (x < size_x)[None, :]
    if channel == 0:
        put(value, scale_red, bias_red, out, inside)
    if (channel == 1) | gray:
        put(value, scale_green, bias_green, out + channel_stride, inside)
    if (channel == 2) | gray:
        put(value, scale_blue, bias_blue, out + 2 * channel_stride, inside)
