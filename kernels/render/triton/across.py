"""Horizontal sums of the resize: weighted pixels of one source row, straight from the image's bytes.

A pixel has three bytes and lies anywhere, so bytes are read as aligned words of four and shifted into place. They are not converted, but
taken as the bits of a float32, see ``TIMES_FACTOR`` in tables.py: products are rounded as those of converted bytes would be.
"""

# mypy: disable-error-code="no-untyped-def"
# Axes: X output columns of a tile.

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
def add_pixels(red, green, blue, row, start, w0, w1, w2, w3, taps: tl.constexpr):
    """Sums [X] of three channels, with those of 1 to 4 side-by-side pixels added.

    row: where the image's row begins, as a pointer to aligned words; start: int32 [X], bytes from there to each column's first pixel. No
    word is read that holds none of these pixels. w0 to w3: float32 [X], as many as ``taps`` are read.
    """
    word = row + (start >> 2)
    shift = ((start & 3) * 8).to(tl.uint64)
    first = tl.load(word)
    if taps == 1:
        first = _shifted(first, tl.load(word + 1, mask=(start & 3) > 1, other=0), shift)
    else:
        second = tl.load(word + 1)
        if taps == 2:
            third = tl.load(word + 2, mask=(start & 3) > 2, other=0)
        else:
            third = tl.load(word + 2)
        first = _shifted(first, second, shift)
        second = _shifted(second, third, shift)
        if taps == 3:
            third = _shifted(third, third, shift)
        if taps == 4:
            third = _shifted(third, tl.load(word + 3, mask=(start & 3) > 0, other=0), shift)

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
