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
from hvs_data.kernels.render.triton.tables import IS_GRAY, LEVELS, OUT, PLACES, SOLARIZE, TIMES_SUM, WHOLES


@triton.jit
def _row(plane, row, inside, last: tl.constexpr, pitch: tl.constexpr):
    """Kept values of rows, reflected where they lie outside, times 2**-149."""
    row = tl.abs(row)
    # so far out that they lie outside once more, rows mean nothing, but must be read from somewhere
    row = tl.maximum(tl.minimum(row, 2 * last - row), 0)
    return tl.load(plane + row * pitch, mask=inside, other=0).to(tl.uint32).to(tl.float32, bitcast=True)


@triton.jit
def _blurred(plane, weights, radius, first, fast, size_slow: tl.constexpr, size_fast: tl.constexpr, tile: tl.constexpr):
    """Sums [S, F] of kept values, times ``1 / TIMES_SUM``, of S rows from ``first`` on.

    weights: of distances ``-radius`` to ``radius``, then three times 0. Four rows side by side share what they read: a row of the memory
    is weighted by its distance from each of them, and these weights move on by one from row to row. There are an even number of rows, so
    two go at once.
    """
    last: tl.constexpr = size_slow - 1
    row = first - radius + 4 * tl.arange(0, tile // 4)[:, None]
    plane += fast[None, :]
    inside = (fast < size_fast)[None, :]
    sum0 = tl.zeros((tile // 4, tile), tl.float32)
    sum1 = tl.zeros((tile // 4, tile), tl.float32)
    sum2 = tl.zeros((tile // 4, tile), tl.float32)
    sum3 = tl.zeros((tile // 4, tile), tl.float32)
    w1, w2, w3 = 0.0, 0.0, 0.0
    for _ in range(radius + 2):
        w0 = tl.load(weights)
        pixels = _row(plane, row, inside, last, size_fast)
        sum0 += w0 * pixels
        sum1 += w1 * pixels
        sum2 += w2 * pixels
        sum3 += w3 * pixels
        w3 = tl.load(weights + 1)
        pixels = _row(plane, row + 1, inside, last, size_fast)
        sum0 += w3 * pixels
        sum1 += w0 * pixels
        sum2 += w1 * pixels
        sum3 += w2 * pixels
        w1, w2, w3 = w3, w0, w1
        row += 2
        weights += 2
    even_and_odd = tl.join(tl.join(sum0, sum2), tl.join(sum1, sum3))
    return tl.reshape(tl.permute(even_and_odd, (0, 2, 3, 1)), (tile, tile))


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

    radii: int32 [M], from 1 to below H and W. weights: float32 [M, weight_stride], see rows.py. whole: see tables.py. scratch: uint16
    [N, 3, H, W]; turned: uint16 [M, 3, W, H], written. The channels of a grey row are equal: only the first one is blurred.
    """
    tiles_x: tl.constexpr = (size_x + tile - 1) // tile
    tiles: tl.constexpr = tiles_x * ((size_y + tile - 1) // tile)
    m = (tl.program_id(0) // (3 * tiles)).to(tl.int64)
    channel = tl.program_id(0) // tiles % 3
    number = tl.program_id(0) % tiles
    row = tl.load(rows + m).to(tl.int64)
    if row < 0:  # lists may be filled up
        return
    if (tl.load(whole + row * WHOLES + IS_GRAY) != 0) & (channel != 0):
        return
    y = number // tiles_x * tile + tl.arange(0, tile)
    x = number % tiles_x * tile + tl.arange(0, tile)
    plane: tl.constexpr = size_y * size_x
    radius = tl.load(radii + m)
    source = scratch + (row * 3 + channel) * plane
    value = _blurred(source, weights + m * weight_stride, radius, number // tiles_x * tile, x, size_y, size_x, tile)
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
    if row < 0:  # lists may be filled up
        return
    whole += row * WHOLES
    gray = tl.load(whole + IS_GRAY) != 0
    if gray & (channel != 0):
        return
    y = number // tiles_x * tile + tl.arange(0, tile)
    x = number % tiles_x * tile + tl.arange(0, tile)
    plane: tl.constexpr = size_y * size_x
    radius = tl.load(radii + m)
    source = turned + (m * 3 + channel) * plane
    value = _blurred(source, weights + m * weight_stride, radius, number % tiles_x * tile, y, size_x, size_y, tile)
    value = tl.trans(value) * (TIMES_SUM / LEVELS)
    if tl.load(whole + SOLARIZE) != 0:
        value = solarized(value, threshold)
    out += tl.load(place + row * PLACES + OUT) * unit
    pixel = (y[:, None] * size_x + x[None, :]) * pixel_stride
    inside = (y < size_y)[:, None] & (x < size_x)[None, :]
    for to in range(channel, tl.where(gray, 3, channel + 1)):
        scale = tl.where(to == 0, scale_red, tl.where(to == 1, scale_green, scale_blue))
        bias = tl.where(to == 0, bias_red, tl.where(to == 1, bias_green, bias_blue))
        put(value, scale, bias, out + to * channel_stride + pixel, inside)
