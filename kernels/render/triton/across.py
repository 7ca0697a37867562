"""Horizontal sums of the resize: weighted pixels of source rows, straight from the image's bytes.

A pixel has three bytes and lies anywhere, so bytes are read as aligned words of four and shifted into place. They are not converted, but
taken as the bits of a float32, see ``TIMES_FACTOR`` in tables.py: products are rounded as those of converted bytes would be. Four pixels
are three words, so that one shift serves a whole row.
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
def _weighted(red, green, blue, first, second, third, w0, w1, w2, w3, taps: tl.constexpr):
    """Sums with 1 to 4 pixels added, which fill three words as far as they go."""
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
def _add_four(red, green, blue, word, low, shift, w0, w1, w2, w3):
    """Sums with four pixels added that others follow. low: what ``word`` points to; returned with the sums: the same for those others."""
    second = tl.load(word + 1)
    third = tl.load(word + 2)
    next_low = tl.load(word + 3)
    a, b, c = _shifted(low, second, shift), _shifted(second, third, shift), _shifted(third, next_low, shift)
    red, green, blue = _weighted(red, green, blue, a, b, c, w0, w1, w2, w3, 4)
    return red, green, blue, next_low


@triton.jit
def _add_last(red, green, blue, word, low, start, shift, w0, w1, w2, w3, taps: tl.constexpr):
    """Sums with the last 1 to 4 pixels added. No word is read that holds none of them. start: where in ``low`` the first one begins."""
    first, second, third = low, low, low
    if taps == 1:
        first = _shifted(low, tl.load(word + 1, mask=start > 1, other=0), shift)
    else:
        after = tl.load(word + 1)
        first = _shifted(low, after, shift)
        if taps == 2:
            second = _shifted(after, tl.load(word + 2, mask=start > 2, other=0), shift)
        else:
            last = tl.load(word + 2)
            second = _shifted(after, last, shift)
            third = _shifted(last, tl.load(word + 3, mask=start > 0, other=0) if taps == 4 else last, shift)
    return _weighted(red, green, blue, first, second, third, w0, w1, w2, w3, taps)


@triton.jit
def pair_sums(
    upper, lower, across, fours, w0, w1, w2, w3, last_taps: tl.constexpr, more: tl.constexpr, size_x: tl.constexpr, tile_x: tl.constexpr
):
    """Sums of all taps in two source rows, for each of X columns: three channels of the upper row, then of the lower one.

    upper, lower: int64 [X], addresses of each column's first pixel. The last 1 to 4 taps have the weights w0 to w3, as many as are read;
    where there are more, ``fours`` times four come before, with weights at ``across``, those of the next tap ``size_x`` further on.
    """
    upper_word, lower_word = (upper & -4).to(tl.pointer_type(tl.uint32)), (lower & -4).to(tl.pointer_type(tl.uint32))
    upper_start, lower_start = upper.to(tl.int32) & 3, lower.to(tl.int32) & 3
    upper_shift, lower_shift = (upper_start * 8).to(tl.uint64), (lower_start * 8).to(tl.uint64)
    upper_low, lower_low = tl.load(upper_word), tl.load(lower_word)
    zero = tl.zeros((tile_x,), tl.float32)
    a_red, a_green, a_blue, b_red, b_green, b_blue = zero, zero, zero, zero, zero, zero
    if more:
        for _ in range(fours):
            v0 = tl.load(across)
            v1 = tl.load(across + size_x)
            v2 = tl.load(across + 2 * size_x)
            v3 = tl.load(across + 3 * size_x)
            a_red, a_green, a_blue, upper_low = _add_four(a_red, a_green, a_blue, upper_word, upper_low, upper_shift, v0, v1, v2, v3)
            b_red, b_green, b_blue, lower_low = _add_four(b_red, b_green, b_blue, lower_word, lower_low, lower_shift, v0, v1, v2, v3)
            across += 4 * size_x
            upper_word += 3
            lower_word += 3
    a_red, a_green, a_blue = _add_last(a_red, a_green, a_blue, upper_word, upper_low, upper_start, upper_shift, w0, w1, w2, w3, last_taps)
    b_red, b_green, b_blue = _add_last(b_red, b_green, b_blue, lower_word, lower_low, lower_start, lower_shift, w0, w1, w2, w3, last_taps)
    return a_red, a_green, a_blue, b_red, b_green, b_blue
