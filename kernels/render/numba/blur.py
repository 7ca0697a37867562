"""Separable Gaussian blur with reflected borders, one output row at a time: vertical taps into a padded row, then along it."""

from __future__ import annotations

import math

import numpy as np

from hvs_data.kernels.render.numba.compile import jit

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
def blur_row(plane, y, size, weight, radius, padded, out):
    """Blur row y of a plane.

    Args:
        plane: float32 [S * S], read only.
        weight, radius: from :func:`fill_weights`; 1 <= radius < S.
        padded: float32 [>= S + 2 * radius], scratch.
        out: float32 [S], written; not part of ``plane``.
    """
    centre = padded[radius : radius + size]
    row = plane[y * size : y * size + size]
    w = weight[0]
    for x in range(size):
        centre[x] = w * row[x]
    for k in range(1, radius + 1):
        above = _reflect(y - k, size) * size
        below = _reflect(y + k, size) * size
        up, down, w = plane[above : above + size], plane[below : below + size], weight[k]
        for x in range(size):
            centre[x] += w * (up[x] + down[x])
    for k in range(1, radius + 1):
        padded[radius - k] = centre[k]
        padded[radius + size - 1 + k] = centre[size - 1 - k]
    w = weight[0]
    for x in range(size):
        out[x] = w * centre[x]
    for k in range(1, radius + 1):
        left, right, w = padded[radius - k : radius - k + size], padded[radius + k : radius + k + size], weight[k]
        for x in range(size):
            out[x] += w * (left[x] + right[x])
