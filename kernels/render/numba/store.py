"""The last step of a row: solarize, scale, and write in the output's number format and memory order."""

from __future__ import annotations

import numpy as np

from hvs_data.kernels.render.numba.compile import jit

# How the numbers of the output array are to be understood. Numba has no half-precision types on CPUs: they travel as uint16.
FLOAT32, FLOAT16, BFLOAT16, UINT8 = 0, 1, 2, 3

_ONE = np.float32(1)
_HALF = np.float32(0.5)


@jit
def finish_row(row, solarize, threshold, scale, bias):
    """row <- (1 - row where solarize and row >= threshold, else row) * scale + bias."""
    if solarize:
        for x in range(row.size):
            value = row[x]
            value = _ONE - value if value >= threshold else value
            row[x] = value * scale + bias
    else:
        for x in range(row.size):
            row[x] = row[x] * scale + bias


@jit
def _to_bfloat16(bits):
    """float32 bits to bfloat16 bits, nearest, ties to even; finite input."""
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@jit
def _to_float16(bits):
    """float32 bits to IEEE half bits, nearest, ties to even; too large values become infinity, small ones subnormal or 0."""
    sign = (bits >> np.uint32(16)) & np.uint32(0x8000)
    magnitude = bits & np.uint32(0x7FFFFFFF)
    exponent = magnitude >> np.uint32(23)
    if exponent >= np.uint32(143):
        return np.uint16(sign | np.uint32(0x7C00))
    if exponent >= np.uint32(113):
        rounded = magnitude + np.uint32(0xFFF) + ((magnitude >> np.uint32(13)) & np.uint32(1))
        return np.uint16(sign | ((rounded - np.uint32(112 << 23)) >> np.uint32(13)))
    if exponent < np.uint32(102):
        return np.uint16(sign)
    # Subnormal: shift the mantissa with its leading one into place, rounding to even.
    mantissa = (magnitude & np.uint32(0x7FFFFF)) | np.uint32(0x800000)
    shift = np.uint32(126) - exponent
    half = (np.uint32(1) << (shift - np.uint32(1))) - np.uint32(1)
    return np.uint16(sign | ((mantissa + half + ((mantissa >> shift) & np.uint32(1))) >> shift))


@jit
def _contiguous(row, bits, kind, out):
    size = row.size
    if kind == FLOAT32:
        for x in range(size):
            out[x] = row[x]
    elif kind == UINT8:
        for x in range(size):
            out[x] = np.uint8(row[x] + _HALF)
    elif kind == BFLOAT16:
        for x in range(size):
            out[x] = _to_bfloat16(bits[x])
    else:
        for x in range(size):
            out[x] = _to_float16(bits[x])


@jit
def _strided(row, bits, kind, out, offset, stride):
    for x in range(row.size):
        to = offset + x * stride
        if kind == FLOAT32:
            out[to] = row[x]
        elif kind == UINT8:
            out[to] = np.uint8(row[x] + _HALF)
        elif kind == BFLOAT16:
            out[to] = _to_bfloat16(bits[x])
        else:
            out[to] = _to_float16(bits[x])


@jit
def store_row(row, bits, kind, out, offset, stride):
    """Write a row.

    Args:
        row: float32 [S]; for UINT8 on the 0-255 scale.
        bits: the same memory as uint32 [S].
        kind: FLOAT32, FLOAT16, BFLOAT16 or UINT8.
        out: float32, uint16 or uint8, one-dimensional.
        offset, stride: where pixel 0 goes and how far apart pixels are, in elements.
    """
    if stride == 1:
        _contiguous(row, bits, kind, out[offset : offset + row.size])
    else:
        _strided(row, bits, kind, out, offset, stride)
