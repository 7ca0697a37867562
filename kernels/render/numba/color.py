"""Colour operations on planar rows of float32 pixels, in place, on the 0-1 scale.

Each takes one row as three arrays [S] (red, green, blue); a loop over a row vectorises, and a row stays in the first-level cache
from one operation to the next. Definitions: torchvision's ColorJitter, with Pillow's grey (.299, .587, .114).
"""

from __future__ import annotations

import math

import numpy as np

from hvs_data.kernels.render.numba.compile import jit

BRIGHTNESS, CONTRAST, SATURATION, HUE = 0, 1, 2, 3

_ZERO, _ONE, _TWO, _FOUR, _SIX = (np.float32(value) for value in (0, 1, 2, 4, 6))
_SIXTH = np.float32(1 / 6)
_TINY = np.float32(1e-30)
_GRAY_RED, _GRAY_GREEN, _GRAY_BLUE = (np.float32(weight) for weight in (0.299, 0.587, 0.114))


@jit
def _unit(value):
    return min(max(value, _ZERO), _ONE)


@jit
def clamp_row(row, scale):
    """row <- clamp(row * scale, 0, 1)."""
    for x in range(row.size):
        row[x] = _unit(row[x] * scale)


@jit
def gray_sum(red, green, blue):
    """Sum of the row's grey values, float32: eight partial sums, then their sum in a fixed order."""
    size = red.size
    partial = np.float32(0)
    a = b = c = d = np.float32(0)
    whole = size - size % 4
    for x in range(0, whole, 4):
        a += _GRAY_RED * red[x] + _GRAY_GREEN * green[x] + _GRAY_BLUE * blue[x]
        b += _GRAY_RED * red[x + 1] + _GRAY_GREEN * green[x + 1] + _GRAY_BLUE * blue[x + 1]
        c += _GRAY_RED * red[x + 2] + _GRAY_GREEN * green[x + 2] + _GRAY_BLUE * blue[x + 2]
        d += _GRAY_RED * red[x + 3] + _GRAY_GREEN * green[x + 3] + _GRAY_BLUE * blue[x + 3]
    for x in range(whole, size):
        partial += _GRAY_RED * red[x] + _GRAY_GREEN * green[x] + _GRAY_BLUE * blue[x]
    return ((a + b) + (c + d)) + partial


@jit
def contrast_row(red, green, blue, factor, mean):
    """Blend with the view's mean grey."""
    rest = (_ONE - factor) * mean
    for row in (red, green, blue):
        for x in range(row.size):
            row[x] = _unit(factor * row[x] + rest)


@jit
def saturation_row(red, green, blue, factor):
    """Blend each pixel with its own grey."""
    rest = _ONE - factor
    for x in range(red.size):
        r, g, b = red[x], green[x], blue[x]
        gray = rest * (_GRAY_RED * r + _GRAY_GREEN * g + _GRAY_BLUE * b)
        red[x] = _unit(factor * r + gray)
        green[x] = _unit(factor * g + gray)
        blue[x] = _unit(factor * b + gray)


@jit
def _hue_channel(position, top, chroma):
    """One channel of a colour from its hue: a trapezoid over the colour circle of six sectors. Source: Smith, SIGGRAPH 1978."""
    position = position - _SIX if position >= _SIX else position
    return top - chroma * _unit(min(position, _FOUR - position))


@jit
def hue_row(red, green, blue, turns):
    """Shift the hue. A pixel's largest value and its chroma stay; only where on the circle they fall changes."""
    # Whole turns change nothing. The sum is at least -1, so that one truncation brings it to [-1, 6).
    shift = _SIX * (turns - np.float32(math.floor(turns)))
    for x in range(red.size):
        r, g, b = red[x], green[x], blue[x]
        top = max(max(r, g), b)
        chroma = top - min(min(r, g), b)
        inverse = _ONE / max(chroma, _TINY)
        hue = _FOUR + (r - g) * inverse
        hue = _TWO + (b - r) * inverse if g >= top else hue
        hue = (g - b) * inverse if r >= top else hue
        hue += shift
        hue -= _SIX * np.float32(np.int32(hue * _SIXTH))
        red[x] = _hue_channel(hue + np.float32(5), top, chroma)
        green[x] = _hue_channel(hue + np.float32(3), top, chroma)
        blue[x] = _hue_channel(hue + _ONE, top, chroma)


@jit
def gray_row(red, green, blue):
    """Three equal channels."""
    for x in range(red.size):
        gray = _GRAY_RED * red[x] + _GRAY_GREEN * green[x] + _GRAY_BLUE * blue[x]
        red[x] = gray
        green[x] = gray
        blue[x] = gray


@jit
def is_identity(operation, factor):
    """Whether an operation with this factor changes nothing."""
    return factor == (_ZERO if operation == HUE else _ONE)


@jit
def color_row(red, green, blue, order, factors, first, last, mean):
    """Apply operations number ``first`` to ``last - 1`` of the order to a row.

    Args:
        order: uint8 [4], operations by number.
        factors: float32 [4], indexed by operation: brightness, contrast, saturation, hue in turns.
        mean: the view's mean grey at its contrast operation; used by that operation only.
    """
    for position in range(first, last):
        operation = order[position]
        factor = factors[operation]
        if is_identity(operation, factor):
            continue
        if operation == BRIGHTNESS:
            clamp_row(red, factor)
            clamp_row(green, factor)
            clamp_row(blue, factor)
        elif operation == CONTRAST:
            contrast_row(red, green, blue, factor, mean)
        elif operation == SATURATION:
            saturation_row(red, green, blue, factor)
        else:
            hue_row(red, green, blue, factor)
