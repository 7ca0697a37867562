"""Blocks of pixels to memory: to the canvas once they are done, to the memory between two kernels while they are not."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

from hvs_data.kernels.render.triton.tables import LEVELS


@triton.jit
def put(value, solarize, threshold, scale, bias, out, inside):
    """Solarize, normalise and store values of one channel.

    out: pointers into the canvas, whose dtype says how: uint8 gets what lies nearest, values being scaled to 0-255; float16 and bfloat16
    are rounded to nearest, ties to even.
    """
    value = tl.where((solarize != 0) & (value >= threshold), 1.0 - value, value)
    value = value * scale + bias
    if out.dtype.element_ty == tl.uint8:
        value = (value + 0.5).to(tl.int32)
    tl.store(out, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def keep(value, levels: tl.constexpr, scratch, inside):
    """Store values of 0 to ``65535 / levels`` as whole numbers of 16 bits: what lies nearest, ties to even."""
    # a float32 from 2**23 on has no digits behind the point, and the last ones before it are the last ones of its bits
    whole = (value * levels + 2.0**23).to(tl.int32, bitcast=True)
    tl.store(scratch, whole.to(tl.uint16), mask=inside)


@triton.jit
def kept(scratch, inside):
    """Values of [0, 1] as they were kept."""
    # eight bits up, since 2**149 is more than a float32 holds, see tables.py
    bits = tl.load(scratch, mask=inside, other=0).to(tl.uint32) << 8
    return bits.to(tl.float32, bitcast=True) * (2.0**141 / LEVELS)
