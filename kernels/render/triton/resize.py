"""Kernel (a): cut out, resize, flip and colour one tile of one view; sum its grey.

Source rows are resized horizontally one pair at a time, straight from the image's bytes, and each result is added at once, with its
vertical weights, to all output rows of the tile, which stay in registers: no memory lies between the two passes. See DESIGN in render.py.
"""

# mypy: disable-error-code="no-untyped-def"
# Axes: N row (one view), T tile of a view, C channel, H W pixels of a view, Y X output rows and columns of a tile.

from __future__ import annotations

import triton
import triton.language as tl

from hvs_data.kernels.render.triton.across import pair_sums
from hvs_data.kernels.render.triton.color import apply_operations, gray_of
from hvs_data.kernels.render.triton.store import keep_pixels, put_pixels
from hvs_data.kernels.render.triton.tables import (
    ACROSS,
    ADDRESS,
    AFTER,
    BAND,
    BAND_ROWS,
    BEFORE,
    BLURRED,
    FACTORS,
    OUT,
    PLACES,
    SOLARIZE,
    STEP,
    TAPS,
    WHOLES,
)


@triton.jit
def _add_pair(red, green, blue, a_red, a_green, a_blue, b_red, b_green, b_blue, band, tile_y: tl.constexpr):
    """Add two source rows to as many output rows as weights lie at ``band``; those of the second row lie ``tile_y`` further on."""
    of_a = tl.load(band)[:, None]
    of_b = tl.load(band + tile_y)[:, None]
    red += of_a * a_red[None, :]
    green += of_a * a_green[None, :]
    blue += of_a * a_blue[None, :]
    red += of_b * b_red[None, :]
    green += of_b * b_green[None, :]
    blue += of_b * b_blue[None, :]
    return red, green, blue


@triton.jit
def _stacked(upper, lower):
    """[Y, X] of two halves [Y / 2, X], on the 0-1 scale."""
    block = tl.reshape(tl.permute(tl.join(upper, lower), (2, 0, 1)), (2 * upper.shape[0], upper.shape[1]))
    return tl.clamp(block, 0.0, 1.0)


@triton.jit
def _sums(
    pixel,
    step,
    top,
    upper_end,
    lower_top,
    end,
    across,
    band,
    fours,
    last_taps: tl.constexpr,
    more: tl.constexpr,
    size_x: tl.constexpr,
    tile_y: tl.constexpr,
    tile_x: tl.constexpr,
):
    """Three blocks [Y, X] of source rows ``top`` to before ``end``; arguments as in :func:`_resized` and across.py."""
    last = across + 4 * size_x * fours
    w0 = tl.load(last)
    w1 = tl.load(last + size_x) if last_taps > 1 else w0
    w2 = tl.load(last + 2 * size_x) if last_taps > 2 else w0
    w3 = tl.load(last + 3 * size_x) if last_taps > 3 else w0
    half: tl.constexpr = tile_y // 2
    zero = tl.zeros((half, tile_x), tl.float32)
    red0, green0, blue0, red1, green1, blue1 = zero, zero, zero, zero, zero, zero
    for r in range(top, end, 2):
        # the second of the last pair may be no tap of this tile: it has no weight, and the first stands in its place
        second = pixel + tl.where(r + 1 < end, step, 0)
        a_red, a_green, a_blue, b_red, b_green, b_blue = pair_sums(
            pixel, second, across, fours, w0, w1, w2, w3, last_taps, more, size_x, tile_x
        )
        if r < upper_end:
            red0, green0, blue0 = _add_pair(red0, green0, blue0, a_red, a_green, a_blue, b_red, b_green, b_blue, band, tile_y)
        if r + 1 >= lower_top:
            red1, green1, blue1 = _add_pair(red1, green1, blue1, a_red, a_green, a_blue, b_red, b_green, b_blue, band + half, tile_y)
        pixel += 2 * step
        band += 2 * tile_y
    return _stacked(red0, red1), _stacked(green0, green1), _stacked(blue0, blue1)


@triton.jit
def _by_last(
    pixel,
    step,
    top,
    upper_end,
    lower_top,
    end,
    across,
    band,
    fours,
    last_taps,
    more: tl.constexpr,
    size_x: tl.constexpr,
    tile_y: tl.constexpr,
    tile_x: tl.constexpr,
):
    """``_sums`` by the code for so many last taps."""
    if last_taps == 1:
        red, green, blue = _sums(pixel, step, top, upper_end, lower_top, end, across, band, fours, 1, more, size_x, tile_y, tile_x)
    elif last_taps == 2:
        red, green, blue = _sums(pixel, step, top, upper_end, lower_top, end, across, band, fours, 2, more, size_x, tile_y, tile_x)
    elif last_taps == 3:
        red, green, blue = _sums(pixel, step, top, upper_end, lower_top, end, across, band, fours, 3, more, size_x, tile_y, tile_x)
    else:
        red, green, blue = _sums(pixel, step, top, upper_end, lower_top, end, across, band, fours, 4, more, size_x, tile_y, tile_x)
    return red, green, blue


@triton.jit
def _resized(place, whole, first, weight, ty, x, size_y: tl.constexpr, size_x: tl.constexpr, tile_y: tl.constexpr, tile_x: tl.constexpr):
    """Three blocks [Y, X] on the 0-1 scale: tile ty's rows, columns x. What lies outside the view is finite and means nothing."""
    step = tl.load(whole + STEP).to(tl.int64)
    taps_y = tl.load(whole + TAPS)
    taps_x = tl.load(whole + TAPS + 1)
    half: tl.constexpr = tile_y // 2
    y = ty * tile_y
    top = tl.load(first + y)
    upper_end = tl.load(first + tl.minimum(y + half, size_y) - 1) + taps_y
    lower_top = tl.load(first + tl.minimum(y + half, size_y - 1))
    end = tl.load(first + tl.minimum(y + tile_y, size_y) - 1) + taps_y
    # the last output's taps, where a column lies outside the view
    column = tl.minimum(x, size_x - 1)
    pixel = tl.load(place + ADDRESS) + step * top + tl.load(first + size_y + column) * 3
    across = weight + tl.load(place + ACROSS) + column
    band = weight + (tl.load(place + BAND) + ty * tl.load(whole + BAND_ROWS)) * tile_y + tl.arange(0, half)
    fours = (taps_x - 1) // 4
    last_taps = taps_x - 4 * fours
    if fours == 0:
        red, green, blue = _by_last(pixel, step, top, upper_end, lower_top, end, across, band, 0, last_taps, False, size_x, tile_y, tile_x)
    else:
        red, green, blue = _by_last(
            pixel, step, top, upper_end, lower_top, end, across, band, fours, last_taps, True, size_x, tile_y, tile_x
        )
    return red, green, blue


@triton.jit
def resize_and_color(
    place,
    whole,
    factor,
    first,
    weight,
    scratch,
    gray_sum,
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
    unit: tl.constexpr,
):
    """One tile of one row; the programs are [N, T].

    place, whole, factor: see tables.py; first, weight: see taps.py. A row without contrast and blur is done here, and goes to ``out``.
    Any other goes to ``scratch``, uint16 [N, 3, H, W], coloured up to its contrast, and its tile's sum of grey to ``gray_sum``, float32
    [N, T]. A value is ``value * scale + bias`` when it is stored in ``out``, whose strides count
    elements; unit: how many elements the table's column OUT counts as one.
    """
    tiles_x: tl.constexpr = (size_x + tile_x - 1) // tile_x
    tiles: tl.constexpr = tiles_x * ((size_y + tile_y - 1) // tile_y)
    row = (tl.program_id(0) // tiles).to(tl.int64)
    tile = tl.program_id(0) % tiles
    ty = tile // tiles_x
    y = ty * tile_y + tl.arange(0, tile_y)
    x = tile % tiles_x * tile_x + tl.arange(0, tile_x)
    place += row * PLACES
    whole += row * WHOLES
    plane: tl.constexpr = size_y * size_x
    red, green, blue = _resized(place, whole, first + row * (size_y + size_x), weight, ty, x, size_y, size_x, tile_y, tile_x)
    red, green, blue = apply_operations(red, green, blue, tl.load(whole + BEFORE), factor + row * FACTORS, 0.0)

    inside = (y < size_y)[:, None] & (x < size_x)[None, :]
    pixel = y[:, None] * size_x + x[None, :]
    if (tl.load(whole + AFTER) == 0) & (tl.load(whole + BLURRED) == 0):
        to = out + tl.load(place + OUT) * unit + pixel * pixel_stride
        put_pixels(
            red, green, blue, tl.load(whole + SOLARIZE), threshold, scale_red, scale_green, scale_blue, bias_red, bias_green, bias_blue,
            to, channel_stride, inside,
        )  # fmt: skip
    else:
        keep_pixels(red, green, blue, scratch + row * 3 * plane + pixel, plane, inside)
        gray = tl.where(inside, gray_of(red, green, blue), 0.0)
        tl.store(gray_sum + row * tiles + tile, tl.sum(tl.sum(gray, axis=0), axis=0))
