"""Kernel (b): from the contrast to the end, or to the blur, of those views that have a contrast."""

# mypy: disable-error-code="no-untyped-def"
# Axes: M row with a contrast, N row (one view), T tile of kernel (a), P pixel of a block.

from __future__ import annotations

import triton
import triton.language as tl

from hvs_data.kernels.render.triton.color import apply_operations
from hvs_data.kernels.render.triton.store import keep_pixels, kept, put_pixels
from hvs_data.kernels.render.triton.tables import AFTER, BLURRED, FACTORS, OUT, PLACES, SOLARIZE, WHOLES


@triton.jit
def finish_color(
    rows,
    place,
    whole,
    factor,
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
    tiles: tl.constexpr,
    block_t: tl.constexpr,
    block_p: tl.constexpr,
    unit: tl.constexpr,
):
    """One block of pixels of one of the rows [M]; the programs are [M, blocks of P pixels].

    Tables as in tables.py; scratch, gray_sum, out and the numbers as in resize.py. A row that is to be blurred goes back to ``scratch``.
    Every program sums the T tiles' grey anew, always in the same order. block_t: a power of two, at least T.
    """
    plane: tl.constexpr = size_y * size_x
    blocks: tl.constexpr = (plane + block_p - 1) // block_p
    row = tl.load(rows + tl.program_id(0) // blocks).to(tl.int64)
    if row < 0:  # lists may be filled up
        return
    pixel = tl.program_id(0) % blocks * block_p + tl.arange(0, block_p)
    inside = pixel < plane
    place += row * PLACES
    whole += row * WHOLES
    scratch += row * 3 * plane + pixel
    t = tl.arange(0, block_t)
    mean = tl.sum(tl.load(gray_sum + row * tiles + t, mask=t < tiles, other=0.0), axis=0) / plane
    red = kept(scratch, inside)
    green = kept(scratch + plane, inside)
    blue = kept(scratch + 2 * plane, inside)
    red, green, blue = apply_operations(red, green, blue, tl.load(whole + AFTER), factor + row * FACTORS, mean)
    if tl.load(whole + BLURRED) != 0:
        keep_pixels(red, green, blue, scratch, plane, inside)
    else:
        to = out + tl.load(place + OUT) * unit + pixel * pixel_stride
        put_pixels(
            red, green, blue, tl.load(whole + SOLARIZE), threshold, scale_red, scale_green, scale_blue, bias_red, bias_green, bias_blue,
            to, channel_stride, inside,
        )  # fmt: skip
