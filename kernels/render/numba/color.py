"""Colour operations on planar float32 pixels, in place, on the 0-1 scale.

Each takes the pixels of some rows, ``count`` in each of the channels red, green and blue; a loop over them vectorises, and a few rows
stay in the nearest caches from one operation to the next. Definitions: torchvision's ColorJitter, with Pillow's grey (.299, .587, .114).
"""

from __future__ import annotations

import math

import numpy as np

from hvs_data.kernels.numba_compile import jit
from hvs_data.kernels.render.numba.vector import PIECE, advanced, prefer_long_vectors, weighted_sum_of_three

BRIGHTNESS, CONTRAST, SATURATION, HUE = 0, 1, 2, 3

_ZERO, _ONE, _TWO, _FOUR, _SIX = (np.float32(value) for value in (0, 1, 2, 4, 6))
_SIXTH = np.float32(1 / 6)
_TINY = np.float32(1e-30)
_GRAY_RED, _GRAY_GREEN, _GRAY_BLUE = (np.float32(weight) for weight in (0.299, 0.587, 0.114))


@jit
def _unit(value):
    return min(max(value, _ZERO), _ONE)


@jit
def adjust_brightness(channel, count, factor):
    """Multiply, and clamp to [0, 1]."""
    prefer_long_vectors()
    for x in range(count):
        channel[x] = _unit(channel[x] * factor)


@jit
def gray_sum(red, green, blue, rows, size, pitch):
    """Sum of the grey values of the first ``size`` pixels of each row, rows lying ``pitch`` apart, in an order that is always the same."""
    total = 0.0
    whole = size // PIECE * PIECE
    for start in range(0, rows * pitch, pitch):
        r, g, b = advanced(red, start), advanced(green, start), advanced(blue, start)
        row = weighted_sum_of_three(r, g, b, whole, _GRAY_RED, _GRAY_GREEN, _GRAY_BLUE)
        for x in range(whole, size):
            row += _GRAY_RED * r[x] + _GRAY_GREEN * g[x] + _GRAY_BLUE * b[x]
        total += row
    return total


@jit
def adjust_contrast(red, green, blue, count, factor, mean):
    """Blend with the view's mean grey."""
    prefer_long_vectors()
    rest = (_ONE - factor) * mean
    for channel in (red, green, blue):
        for x in range(count):
            channel[x] = _unit(factor * channel[x] + rest)


@jit
def shade_pixels(channel, count, order, factors, first, last, mean):
    """Brightness and contrast among operations number ``first`` to ``last - 1`` of the order, of one channel of any; others are none."""
    prefer_long_vectors()
    for position in range(first, last):
        factor = factors[order[position]]
        if order[position] == BRIGHTNESS:
            adjust_brightness(channel, count, factor)
        elif order[position] == CONTRAST:
            rest = (_ONE - factor) * mean
            for x in range(count):
                channel[x] = _unit(factor * channel[x] + rest)


@jit
def value_sum(channel, rows, size, pitch):
    """As :func:`gray_sum`, of the values of one channel."""
    total = 0.0
    whole = size // PIECE * PIECE
    for start in range(0, rows * pitch, pitch):
        values = advanced(channel, start)
        row = weighted_sum_of_three(values, values, values, whole, _ONE, _ZERO, _ZERO)
        for x in range(whole, size):
            row += values[x]
        total += row
    return total


@jit
def adjust_saturation(red, green, blue, count, factor):
    """Blend each pixel with its own grey."""
    prefer_long_vectors()
    rest = _ONE - factor
    for x in range(count):
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
def adjust_hue(red, green, blue, count, turns):
    """Shift the hue. A pixel's largest value and its chroma stay; only where on the circle they fall changes."""
    prefer_long_vectors()
    # Whole turns change nothing. The sum is at least -1, so that one truncation brings it to [-1, 6).
    shift = _SIX * (turns - np.float32(math.floor(turns)))
    for x in range(count):
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
def gray_pixels(red, green, blue, count):
    """Three equal channels."""
    prefer_long_vectors()
    for x in range(count):
        gray = _GRAY_RED * red[x] + _GRAY_GREEN * green[x] + _GRAY_BLUE * blue[x]
        red[x] = gray
        green[x] = gray
        blue[x] = gray


@jit
def is_identity(operation, factor):
    """Whether an operation with this factor changes nothing."""
    return factor == (_ZERO if operation == HUE else _ONE)


@jit
def color_pixels(red, green, blue, count, order, factors, first, last, mean):
    """Apply operations number ``first`` to ``last - 1`` of the order.

    Args:
        order: uint8 [4], operations by number.
        factors: float32 [4], indexed by operation: brightness, contrast, saturation, hue in turns.
        mean: the view's mean grey at its contrast operation; used by that operation only.
    """
    prefer_long_vectors()
    for position in range(first, last):
        operation = order[position]
        factor = factors[operation]
        if is_identity(operation, factor):
            continue
        if operation == BRIGHTNESS:
            adjust_brightness(red, count, factor)
            adjust_brightness(green, count, factor)
            adjust_brightness(blue, count, factor)
        elif operation == CONTRAST:
            adjust_contrast(red, green, blue, count, factor, mean)
        elif operation == SATURATION:
            adjust_saturation(red, green, blue, count, factor)
        else:
            adjust_hue(red, green, blue, count, factor)
