"""Colour operations on three blocks of float32 pixels on the 0-1 scale.

Definitions: torchvision's ColorJitter, with Pillow's grey (.299, .587, .114); hue in the hexcone of Smith, SIGGRAPH 1978.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

from hvs_data.kernels.render.triton.tables import BRIGHTNESS, CONTRAST, FACTORS, HUE, OPERATION_BITS, OPERATION_MASK, SATURATION


@triton.jit
def gray_of(red, green, blue):
    return 0.299 * red + 0.587 * green + 0.114 * blue


@triton.jit
def _hue_channel(position, top, chroma):
    """One channel from a place on the colour circle of six sectors: a trapezoid. Positions are from 0 to below 12."""
    position = tl.where(position >= 6.0, position - 6.0, position)
    return top - chroma * tl.clamp(tl.minimum(position, 4.0 - position), 0.0, 1.0)


@triton.jit
def _shifted_hue(red, green, blue, sectors):
    """Largest value and chroma of a pixel stay; only where on the circle they fall changes."""
    top = tl.maximum(tl.maximum(red, green), blue)
    chroma = top - tl.minimum(tl.minimum(red, green), blue)
    is_red, is_green = red >= top, green >= top
    difference = tl.where(is_red, green - blue, tl.where(is_green, blue - red, red - green))
    start = tl.where(is_red, 0.0, tl.where(is_green, 2.0, 4.0))
    hue = start + tl.div_rn(difference, tl.where(chroma > 0.0, chroma, 1.0)) + sectors
    hue = tl.where(hue >= 6.0, hue - 6.0, hue)  # from -1 to below 6
    return _hue_channel(hue + 5.0, top, chroma), _hue_channel(hue + 3.0, top, chroma), _hue_channel(hue + 1.0, top, chroma)


@triton.jit
def apply_operations(red, green, blue, operations, factors, mean):
    """Apply a row's operations in their order; those that change nothing are not among them.

    operations: int32, three bits each, the first one lowest, 0 at the end. factors: float32 [FACTORS] in memory, of this row. mean: the
    view's mean grey, for the contrast.
    """
    while operations != 0:
        operation = operations & OPERATION_MASK
        operations = operations >> OPERATION_BITS
        factor = tl.load(factors + tl.minimum(operation, FACTORS) - 1)  # grey has none
        rest = 1.0 - factor
        if operation == BRIGHTNESS:
            red, green, blue = tl.clamp(red * factor, 0.0, 1.0), tl.clamp(green * factor, 0.0, 1.0), tl.clamp(blue * factor, 0.0, 1.0)
        elif operation == CONTRAST:
            other = rest * mean
            red, green, blue = (
                tl.clamp(factor * red + other, 0.0, 1.0),
                tl.clamp(factor * green + other, 0.0, 1.0),
                tl.clamp(factor * blue + other, 0.0, 1.0),
            )
        elif operation == SATURATION:
            gray = rest * gray_of(red, green, blue)
            red, green, blue = (
                tl.clamp(factor * red + gray, 0.0, 1.0),
                tl.clamp(factor * green + gray, 0.0, 1.0),
                tl.clamp(factor * blue + gray, 0.0, 1.0),
            )
        elif operation == HUE:
            red, green, blue = _shifted_hue(red, green, blue, factor)
        else:
            gray = gray_of(red, green, blue)
            red, green, blue = gray, gray, gray
    return red, green, blue
