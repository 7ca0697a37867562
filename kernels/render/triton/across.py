"""Horizontal sums of the resize: weighted pixels of source rows, straight from the image's bytes.

A pixel has three bytes and lies anywhere, so bytes are read as aligned words of four and shifted into place. They are not converted, but
taken as the bits of a float32, see ``TIMES_FACTOR`` in tables.py: products are rounded as those of converted bytes would be.
"""

# mypy: disable-error-code="no-untyped-def"
# Axes: X output columns of a tile. Sums of a channel: float32 [X].

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _shifted(low, high, shift):
    """Four bytes of the eight in two words, from a place on."""
    return ((high.to(tl.uint64) << 32 | low.to(tl.uint64)) >> shift).to(tl.uint32)


@triton.jit
def _byte(word, number: tl.constexpr):
    """Its value times 2**-149."""
    return ((word >> (8 * number)) & 255).to(tl.float32, bitcast=True)


@triton.jit
def _add_pixels(red, green, blue, at, w0, w1, w2, w3, taps: tl.constexpr):
    """Add 1 to 4 pixels side by side, the first of which is at address ``at``, int64 [X], to the sums of three channels.

    No word is read that holds none of these pixels. Of w0 to w3, as many as there are taps are used.
    """
    word = (at & -4).to(tl.pointer_type(tl.uint32))
    start = at.to(tl.int32) & 3
    shift = (start * 8).to(tl.uint64)
    first = tl.load(word)
    if taps == 1:
        first = _shifted(first, tl.load(word + 1, mask=start > 1, other=0), shift)
    else:
        second = tl.load(word + 1)
        if taps == 2:
            third = tl.load(word + 2, mask=start > 2, other=0)
        else:
            third = tl.load(word + 2)
        first = _shifted(first, second, shift)
        second = _shifted(second, third, shift)
        if taps == 3:
            third = _shifted(third, third, shift)
        if taps == 4:
            third = _shifted(third, tl.load(word + 3, mask=start > 0, other=0), shift)

    red += w0 * _byte(first, 0)
    green += w0 * _byte(first, 1)
    blue += w0 * _byte(first, 2)
    if taps > 1:
        red += w1 * _byte(first, 3)
        green += w1 * _byte(second, 0)
        blue += w1 * _byte(second, 1)
    if taps > 2:
        red += w2 * _byte(second, 2)
        green += w2 * _byte(second, 3)
        blue += w2 * _byte(third, 0)
    if taps > 3:
        red += w3 * _byte(third, 1)
        green += w3 * _byte(third, 2)
        blue += w3 * _byte(third, 3)
    return red, green, blue


@triton.jit
def pair_sums(upper, lower, across, w0, w1, w2, w3, taps_x, taps: tl.constexpr, size_x: tl.constexpr, tile_x: tl.constexpr):
    """Sums of all taps in two source rows, for each of X columns: three channels of the upper row, then of the lower one.

    upper, lower: int64 [X], addresses of each column's first pixel. taps: how many there are, with the weights w0 to w3; or 0, if there
    are ``taps_x``, at least three, with weights at ``across``, those of the next tap ``size_x`` further on.
    """
    zero = tl.zeros((tile_x,), tl.float32)
    if taps > 0:
        a_red, a_green, a_blue = _add_pixels(zero, zero, zero, upper, w0, w1, w2, w3, taps)
        b_red, b_green, b_blue = _add_pixels(zero, zero, zero, lower, w0, w1, w2, w3, taps)
    else:
        a_red, a_green, a_blue, b_red, b_green, b_blue = zero, zero, zero, zero, zero, zero
        for done in range(0, taps_x, 3):
            # some of the last three may have been added before
            k = tl.minimum(done, taps_x - 3)
            w0 = tl.load(across + k * size_x, mask=k >= done, other=0.0)
            w1 = tl.load(across + (k + 1) * size_x, mask=k + 1 >= done, other=0.0)
            w2 = tl.load(across + (k + 2) * size_x)
            a_red, a_green, a_blue = _add_pixels(a_red, a_green, a_blue, upper + 3 * k, w0, w1, w2, w2, 3)
            b_red, b_green, b_blue = _add_pixels(b_red, b_green, b_blue, lower + 3 * k, w0, w1, w2, w2, 3)
    return a_red, a_green, a_blue, b_red, b_green, b_blue
