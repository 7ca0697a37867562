"""The last step of a row: solarize, posterize, scale, and write in the output's number format and memory order."""

from __future__ import annotations

import math

import numpy as np

from hvs_data.kernels.numba_compile import jit
from hvs_data.kernels.render.numba.vector import bits_of, prefer_long_vectors

# How the numbers of the output array are to be understood. Numba has no half-precision types on CPUs: they travel as uint16.
FLOAT32, FLOAT16, BFLOAT16, UINT8 = 0, 1, 2, 3

_ONE = np.float32(1)
_HALF = np.float32(0.5)


@jit
def solarize_row(row, size, threshold):
    """row <- 1 - row where row >= threshold."""
    prefer_long_vectors()
    for x in range(size):
        value = row[x]
        row[x] = _ONE - value if value >= threshold else value


@jit
def posterize_row(row, size, bits):
    """row <- row rounded down to one of 2**bits levels."""
    prefer_long_vectors()
    levels = np.float32(1 << bits)
    for x in range(size):
        row[x] = min(max(np.float32(math.floor(row[x] * levels)), np.float32(0)), levels - _ONE) / levels


@jit
def finish_row(row, size, scale, bias):
    """row <- row * scale + bias."""
    prefer_long_vectors()
    for x in range(size):
        row[x] = row[x] * scale + bias


@jit
def _to_bfloat16(value):
    """The bits of a finite number as bfloat16, rounded to nearest, ties to even."""
    bits = bits_of(value)
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@jit
def _to_float16(value):
    """The bits of a finite number as float16, rounded to nearest, ties to even; what is too large becomes infinite. Without branches."""
    bits = bits_of(value)
    magnitude = bits & np.uint32(0x7FFFFFFF)
    # rounds, then takes 112 off the exponent, the difference of the two formats' offsets
    normal = (magnitude + np.uint32(0xFFF) + ((magnitude >> np.uint32(13)) & np.uint32(1)) - np.uint32(112 << 23)) >> np.uint32(13)
    # the sum's last digit is worth 2**-24, as that of a subnormal half, and it is rounded as this one has to be
    subnormal = bits_of(abs(value) + _HALF) - np.uint32(0x3F000000)
    result = normal if magnitude >= np.uint32(113 << 23) else subnormal
    result = np.uint32(0x7C00) if magnitude >= np.uint32(143 << 23) else result
    return np.uint16(result | ((bits >> np.uint32(16)) & np.uint32(0x8000)))


@jit
def store_row(row, size, kind, out, offset, stride):
    """Write a row.

    Args:
        row: float32 [size]; for UINT8 on the 0-255 scale.
        kind: FLOAT32, FLOAT16, BFLOAT16 or UINT8.
        out: float32, uint16 or uint8, one-dimensional.
        offset, stride: where pixel 0 goes and how far apart pixels are, in elements.
    """
    # the same loops twice: where the stride is known to be one, they vectorise
    if stride == 1:
        _store(row, size, kind, out, offset, 1)
    else:
        _store(row, size, kind, out, offset, stride)


@jit
def _store(row, size, kind, out, offset, stride):
    prefer_long_vectors()
    if kind == FLOAT32:
        for x in range(size):
            out[offset + x * stride] = row[x]
    elif kind == UINT8:
        for x in range(size):
            out[offset + x * stride] = np.uint8(row[x] + _HALF)
    elif kind == BFLOAT16:
        for x in range(size):
            out[offset + x * stride] = _to_bfloat16(row[x])
    else:
        for x in range(size):
            out[offset + x * stride] = _to_float16(row[x])
