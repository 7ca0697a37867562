"""Blocks of pixels to memory: to the canvas once they are done, to the memory between two kernels while they are not."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

from hvs_data.kernels.render.triton.tables import LEVELS


@triton.jit
def solarized(value, threshold):
    return tl.where(value >= threshold, 1.0 - value, value)


@triton.jit
def put(value, scale, bias, out, inside):
    """Normalise and store values of one channel.

    out: pointers into the canvas, whose dtype says how: uint8 gets what lies nearest, values being scaled to 0-255; float16 and bfloat16
    are rounded to nearest, ties to even.
    """
    value = value * scale + bias
    if out.dtype.element_ty == tl.uint8:
        value = (value + 0.5).to(tl.int32)
    tl.store(out, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def put_pixels(
    red,
    green,
    blue,
    solarize,
    threshold,
    scale_red,
    scale_green,
    scale_blue,
    bias_red,
    bias_green,
    bias_blue,
    out,
    channel_stride,
    inside,
):
    """Solarize, normalise and store all channels; out: pointers to the first one."""
    if solarize != 0:
        red, green, blue = solarized(red, threshold), solarized(green, threshold), solarized(blue, threshold)
    put(red, scale_red, bias_red, out, inside)
    put(green, scale_green, bias_green, out + channel_stride, inside)
    put(blue, scale_blue, bias_blue, out + 2 * channel_stride, inside)


@triton.jit
def keep(levels, scratch, inside):
    """Store values from 0 to 65535 as whole numbers of 16 bits: what lies nearest, ties to even."""
    # a float32 from 2**23 on has no digits behind the point, and the last ones before it are the last ones of its bits
    whole = (levels + 2.0**23).to(tl.int32, bitcast=True)
    tl.store(scratch, whole.to(tl.uint16), mask=inside)


@triton.jit
def keep_pixels(red, green, blue, scratch, plane: tl.constexpr, inside):
    """Store values of [0, 1] of all channels; scratch: pointers to the first one, the others ``plane`` and twice as much behind."""
    keep(red * LEVELS, scratch, inside)
    keep(green * LEVELS, scratch + plane, inside)
    keep(blue * LEVELS, scratch + 2 * plane, inside)


@triton.jit
def kept(scratch, inside):
    """Values of [0, 1] as they were kept."""
    # eight bits up, since 2**149 is more than a float32 holds, see tables.py
    bits = tl.load(scratch, mask=inside, other=0).to(tl.uint32) << 8
    return bits.to(tl.float32, bitcast=True) * (2.0**141 / LEVELS)
