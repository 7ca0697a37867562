"""Separable Gaussian blur with reflected borders, one output row at a time: vertical taps into a padded row, then along it."""

from __future__ import annotations

import math

import numpy as np

from hvs_data.kernels.numba_compile import LANES, jit
from hvs_data.kernels.render.numba.vector import symmetric_sum_1, symmetric_sum_7

# Taps beyond four standard deviations hold less than 6.4e-5 of an axis' weight: .033 of a 0-255 level at the worst, both axes together.
CUTOFF = 4.0


@jit
def fill_weights(sigma, radius, weight):
    """Normalised weights of distance 0 to R.

    Args:
        sigma: standard deviation in rendered pixels, above 0.
        radius: largest allowed R.
        weight: float32 [>= radius + 1], written.

    Returns:
        R, the radius that is used; 0 if the blur is none.
    """
    # compared as floating numbers: a huge sigma is none that an integer holds
    used = int(min(float(radius), np.ceil(CUTOFF * sigma)))
    total = 1.0
    for k in range(1, used + 1):
        total += 2.0 * math.exp(-0.5 * (k / sigma) ** 2)
    for k in range(used + 1):
        weight[k] = math.exp(-0.5 * (k / sigma) ** 2) / total
    while used > 0 and weight[used] < 1e-9:
        used -= 1
    return used


@jit
def _reflect(position, size):
    position = abs(position)
    return 2 * (size - 1) - position if position >= size else position


@jit
def _weighted(source, start, before, after, weight, radius, length, out, to):
    """Symmetric sums of as many elements as ``length``, a multiple of LANES, from ``start`` on."""
    x = 0
    while x + 7 * LANES <= length:
        symmetric_sum_7(source, start + x, before, after, weight, radius, out, to + x)
        x += 7 * LANES
    while x < length:
        symmetric_sum_1(source, start + x, before, after, weight, radius, out, to + x)
        x += LANES


@jit
def blur_row(planes, start, y, size_y, size_x, pitch, weight, radius, before, after, padded, out):
    """Blur row y of a plane.

    Args:
        planes: float32, read only; the plane's row y begins at ``start + y * pitch``, in vectors that may all be read.
        size_y, size_x: rows and pixels of a row.
        pitch: distance of rows, their pixels rounded up to whole vectors.
        weight, radius: from :func:`fill_weights`; 1 <= radius < both sizes.
        before, after: int64 [>= radius + 1], scratch.
        padded: float32 [>= pitch + 2 * radius], scratch.
        out: float32 [>= pitch], written; what lies past the row is undefined.
    """
    for k in range(1, radius + 1):
        before[k] = (_reflect(y - k, size_y) - y) * pitch
        after[k] = (_reflect(y + k, size_y) - y) * pitch
    _weighted(planes, start + y * pitch, before, after, weight, radius, pitch, padded, radius)
    last = radius + size_x - 1
    for k in range(1, radius + 1):
        padded[radius - k] = padded[radius + k]
        padded[last + k] = padded[last - k]
        before[k] = -k
        after[k] = k
    _weighted(padded, radius, before, after, weight, radius, pitch, out, 0)
