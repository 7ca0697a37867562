"""Kernel (c): separable Gaussian blur with reflected borders of those views that have one, and their end.

As in the resize, each source row is blurred along itself and added at once, with its vertical weights, to all output rows of a tile.
"""

# mypy: disable-error-code="no-untyped-def"
# Axes: M row with a blur, N row (one view), C channel, H W pixels of a view, R radius, Y X output rows and columns of a tile.

from __future__ import annotations

import triton
import triton.language as tl

from hvs_data.kernels.render.triton.store import kept, put
from hvs_data.kernels.render.triton.tables import IS_GRAY, OUT, PLACES, SOLARIZE, WHOLES


@triton.jit
def _reflected(position, last: tl.constexpr):
    position = tl.maximum(position, -position)
    return tl.minimum(position, 2 * last - position)


@triton.jit
def blur_rows(
    rows,
    radii,
    weights,
    weight_stride,
    place,
    whole,
    scratch,
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
    tile_y: tl.constexpr,
    tile_x: tl.constexpr,
):
    """One tile of one channel of one of the rows [M]; the programs are [M, 3, tiles].

    radii: int32 [M], from 1 to below H and W. weights: float32 [M, weight_stride], of distances 0 to R. Tables as in tables.py; scratch,
    out and the numbers as in resize.py. The channels of a grey row are equal: the first one is blurred and stored three times.
    """
    tiles_x: tl.constexpr = (size_x + tile_x - 1) // tile_x
    tiles: tl.constexpr = tiles_x * ((size_y + tile_y - 1) // tile_y)
    m = tl.program_id(0) // (3 * tiles)
    channel = tl.program_id(0) // tiles % 3
    tile = tl.program_id(0) % tiles
    row = tl.load(rows + m).to(tl.int64)
    place += row * PLACES
    whole += row * WHOLES
    gray = tl.load(whole + IS_GRAY) != 0
    if gray & (channel != 0):
        return
    radius = tl.load(radii + m)
    weights += m * weight_stride
    scratch += (row * 3 + channel) * size_y * size_x
    y0 = tile // tiles_x * tile_y
    y = y0 + tl.arange(0, tile_y)
    x = tile % tiles_x * tile_x + tl.arange(0, tile_x)
    column = tl.minimum(x, size_x - 1)
    within = x < size_x
    centre = tl.load(weights)

    value = tl.zeros((tile_y, tile_x), tl.float32)
    for r in range(y0 - radius, tl.minimum(y0 + tile_y, size_y) + radius):
        source = scratch + _reflected(r, size_y - 1) * size_x
        line = centre * kept(source + column, within)
        for k in range(1, radius + 1):
            left = kept(source + _reflected(column - k, size_x - 1), within)
            right = kept(source + _reflected(column + k, size_x - 1), within)
            line += tl.load(weights + k) * (left + right)
        distance = tl.maximum(y - r, r - y)
        factor = tl.load(weights + distance, mask=distance <= radius, other=0.0)
        value += factor[:, None] * line[None, :]

    inside = (y < size_y)[:, None] & within[None, :]
    pixel = (y[:, None] * size_x + x[None, :]) * pixel_stride
    solarize = tl.load(whole + SOLARIZE)
    out += tl.load(place + OUT)
    put(value, solarize, threshold, scale_red, bias_red, out + pixel, inside & (channel == 0))
    put(value, solarize, threshold, scale_green, bias_green, out + channel_stride + pixel, inside & ((channel == 1) | gray))
    put(value, solarize, threshold, scale_blue, bias_blue, out + 2 * channel_stride + pixel, inside & ((channel == 2) | gray))
