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
def _hue_channel(hue, turned, low, top, chroma):
    """One channel of a hue from -1 to 5, times chroma, that is turned further; turned: from the opposite of the channel's own hue.

    Within a sixth of its own hue a channel is full, within a sixth of the opposite one it is empty, and linear in between.
    """
    # from -5 to below 1, so that it is at most one turn with the hue, and what is missing to half a turn is a single difference
    turned = tl.where(turned < -5.0, turned + 6.0, tl.where(turned >= 1.0, turned - 6.0, turned))
    near = tl.abs(tl.abs(hue + turned * chroma) - 3.0 * chroma)
    return tl.minimum(tl.maximum((top + chroma) - near, low), top)


@triton.jit
def _shifted_hue(red, green, blue, sectors):
    """Largest and smallest value of a pixel stay; only where on the circle they fall changes. sectors: from -3 to 3.

    All places on the circle are multiplied by chroma, so that nothing is divided by it: red lies at 0, green at 2, blue at 4 times chroma.
    """
    top = tl.maximum(tl.maximum(red, green), blue)
    low = tl.minimum(tl.minimum(red, green), blue)
    chroma = top - low
    hue = tl.where(red >= top, green - blue, tl.where(green >= top, 2.0 * chroma + (blue - red), 4.0 * chroma + (red - green)))
    return (
        _hue_channel(hue, sectors - 3.0, low, top, chroma),
        _hue_channel(hue, sectors - 5.0, low, top, chroma),
        _hue_channel(hue, sectors - 1.0, low, top, chroma),
    )


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
