"""Taps of a box in a resized image, which may reach beyond it into black: both resizes along an axis as one sum over source pixels.

Weights are products of those of :mod:`hvs_data.kernels.render.numba.resample`, summed over the resized image's pixels in between.
"""

# Axes: S output pixels, K taps.

from __future__ import annotations

import math

import numpy as np

from hvs_data.kernels.numba_compile import LANES, jit
from hvs_data.kernels.render.numba.resample import count_taps, filter_weight


@jit
def _taps(x, source, size, bicubic):
    """First and last + 1 source pixel of output pixel x of a resize."""
    zoom = source / size
    support = (2.0 if bicubic else 1.0) * max(zoom, 1.0)
    centre = (x + 0.5) * zoom
    return max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), source)


@jit
def _weight(x, k, source, size, bicubic):
    """Weight of source pixel k in output pixel x of a resize, up to the sum of all."""
    zoom = source / size
    return filter_weight((k + 0.5 - (x + 0.5) * zoom) / max(zoom, 1.0), bicubic)


@jit
def _sum(x, first, stop, source, size, bicubic):
    total = 0.0
    for k in range(first, stop):
        total += _weight(x, k, source, size, bicubic)
    return total


@jit
def reach(source, resized, start, length, bicubic):
    """First and last + 1 source pixel of a box's pixels inside the resized image; of a box outside of it, those of the nearest one."""
    first, _ = _taps(min(max(start, 0), resized - 1), source, resized, bicubic)
    _, stop = _taps(min(max(start + length - 1, 0), resized - 1), source, resized, bicubic)
    return first, stop


@jit
def _between(length, size, bicubic):
    """Most pixels of the box in an output pixel; those of a box of the view's size are its own."""
    return 1 if length == size else count_taps(length, size, bicubic)


@jit
def count_chained(source, resized, length, size, bicubic):
    """Most source pixels in an output pixel, or more."""
    zoom = source / resized
    support = (2.0 if bicubic else 1.0) * max(zoom, 1.0)
    return min(int(math.ceil((_between(length, size, bicubic) - 1) * zoom) + math.ceil(2.0 * support)) + 2, source)


@jit
def most_chained(height, width, box_V4, resized_V2, size_y, size_x, bicubic):
    """What the views of an image take at most: taps, and rows that the taps of LANES neighbouring output rows reach."""
    most_taps = most_rows = 0
    for v in range(len(box_V4)):
        if resized_V2[v, 0] > 0:
            taps = count_chained(height, resized_V2[v, 0], box_V4[v, 2], size_y, bicubic)
            box_rows = math.ceil((LANES - 1) * (box_V4[v, 2] / size_y))
            rows = min(int(math.ceil(box_rows * (height / resized_V2[v, 0]))) + taps + 1, height)
            most_taps = max(most_taps, taps, count_chained(width, resized_V2[v, 1], box_V4[v, 3], size_x, bicubic))
            most_rows = max(most_rows, rows)
    return most_taps, most_rows


@jit
def fill_chained(source, resized, start, length, first, stop, size, bicubic, reverse, scale, group, first_S, weight):
    """Compute the first source pixel and the weights of every output pixel, as :func:`hvs_data.kernels.render.numba.resample.fill_taps`.

    Args:
        source, resized: the image's pixels along this side, and those after the first resize.
        start, length: of the box in the resized image.
        first, stop: from :func:`reach`; source pixels are counted from ``first``.
        size, bicubic, reverse, scale, group, first_S, weight: as there; the weights of output pixels that reach beyond the resized image
            sum to less than ``scale``.

    Returns:
        K.
    """
    taps = min(count_chained(source, resized, length, size, bicubic), stop - first)
    between = _between(length, size, bicubic)
    sums_K = np.zeros(taps)
    for x in range(size):
        begin, end = _taps(x, length, size, bicubic)
        if length == size:
            begin, end = x, x + 1
        end = min(end, begin + between)
        box_total = _sum(x, begin, end, length, size, bicubic)
        base, _ = _taps(min(max(start + begin, 0), resized - 1), source, resized, bicubic)
        base = min(base - first, stop - first - taps)
        sums_K[:] = 0.0
        for place in range(max(start + begin, 0), min(start + end, resized)):
            share = _weight(x, place - start, length, size, bicubic) / box_total
            low, high = _taps(place, source, resized, bicubic)
            total = _sum(place, low, high, source, resized, bicubic)
            for k in range(low, high):
                sums_K[k - first - base] += share * _weight(place, k, source, resized, bicubic) / total
        to = size - 1 - x if reverse else x
        first_S[to] = base
        for k in range(taps):
            weight[to // group * group * taps + to % group + group * k] = scale * sums_K[k]
    for x in range(size, (size + group - 1) // group * group):
        first_S[x] = 0
        for k in range(taps):
            weight[x // group * group * taps + group * k + x % group] = 0.0
    return taps
