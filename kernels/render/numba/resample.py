"""Antialiased resize of a box, eight output rows at a time: uint8 RGB rows in, planar float32 rows on the 0-1 scale out.

The vertical pass comes first: whole source rows are contiguous, and the horizontal pass then has the output's rows only. For that one,
the eight rows are transposed, so that a source pixel's eight values lie side by side and one weight multiplies them all at once.

Filter definition: Pillow's and torchvision's ``antialias=True``; the support grows with the downscale ratio.
"""

# Axes: H W source pixels of the box, S output pixels, P output pixels rounded up to whole vectors, K taps.

from __future__ import annotations

import math

import numpy as np

from hvs_data.kernels.render.numba.compile import jit
from hvs_data.kernels.render.numba.vector import LANES, sum_rows_8, sum_rows_32, sum_taps_8x8, transpose_8x8


@jit
def whole_vectors(length: int) -> int:
    """The next multiple of eight."""
    return (length + LANES - 1) // LANES * LANES


@jit
def count_taps(source: int, size: int, bicubic: bool) -> int:
    """Most taps that any output pixel has."""
    support = (2.0 if bicubic else 1.0) * max(source / size, 1.0)
    return min(int(math.ceil(2.0 * support)), source)


@jit
def _filter(distance: float, bicubic: bool) -> float:
    x = abs(distance)
    if not bicubic:
        return max(1.0 - x, 0.0)
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    if x < 2.0:
        return ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return 0.0


@jit
def fill_taps(source, size, bicubic, reverse, scale, group, first_S, weight):
    """Compute the first source pixel and the weights of every output pixel.

    Args:
        source: pixels along the box's side.
        size: S.
        bicubic: Keys' cubic with a = -0.5 instead of the triangle.
        reverse: mirror the output.
        scale: what each pixel's weights sum to.
        group: 1, or 8 to keep the weights of eight output pixels side by side, tap by tap; those past S are 0.
        first_S: int64 [>= S rounded up to whole groups], written. All taps lie inside the source.
        weight: float32, one-dimensional, [>= as many * K], written; tap k of pixel x at ``x // group * group * K + group * k + x % group``.

    Returns:
        K.
    """
    taps = count_taps(source, size, bicubic)
    zoom = source / size
    stretch = max(zoom, 1.0)
    support = (2.0 if bicubic else 1.0) * stretch
    for x in range(size):
        centre = (x + 0.5) * zoom
        start = max(int(centre - support + 0.5), 0)
        # where rounding makes one tap more than there can be, the last one has no weight
        stop = min(int(centre + support + 0.5), source, start + taps)
        total = 0.0
        for k in range(start, stop):
            total += _filter((k - centre + 0.5) / stretch, bicubic)
        base = min(start, source - taps)
        to = size - 1 - x if reverse else x
        first_S[to] = base
        place = to // group * group * taps + to % group
        for k in range(taps):
            inside = start <= base + k < stop
            weight[place + group * k] = scale * _filter((base + k - centre + 0.5) / stretch, bicubic) / total if inside else 0.0
    for x in range(size, (size + group - 1) // group * group):
        first_S[x] = 0
        for k in range(taps):
            weight[x // group * group * taps + group * k + x % group] = 0.0
    return taps


@jit
def _vertical_row(image, start, step, length, weight, at, taps, rows, to):
    """rows[to + x] = weighted sum over the taps of source pixels, for x < length."""
    x = 0
    while x + 4 * LANES <= length:
        sum_rows_32(image, start + x, step, weight, at, taps, rows, to + x)
        x += 4 * LANES
    while x + LANES <= length:
        sum_rows_8(image, start + x, step, weight, at, taps, rows, to + x)
        x += LANES
    if x < length and length >= LANES:  # the last vector overlaps the one before
        sum_rows_8(image, start + length - LANES, step, weight, at, taps, rows, to + length - LANES)
    elif x < length:
        for j in range(length):
            total = np.float32(0)
            for k in range(taps):
                total += weight[at + k] * np.float32(image[start + k * step + j])
            rows[to + j] = total


@jit
def resize_rows(image, step, start, width, y, stop, taps_y, first_y, weight_y, taps_x, first_x, weight_x, rows, columns, planes, to, pitch):
    """Output rows ``y`` to ``y + 7`` of the three channels, clamped to [0, 1], which bicubic weights overshoot.

    Args:
        image: uint8, one-dimensional, rows of RGB pixels ``step`` apart; the box begins at ``start`` and is ``width`` pixels wide.
        y, stop: the first output row, and the first one that is not wanted; what is in its place is undefined.
        taps_y .. weight_x: from :func:`fill_taps`, ``weight_y`` in groups of 1 and with sums of 1 / 255, ``weight_x`` in groups of 8.
        rows, columns: float32 [>= 8 * P of 3 * width], scratch.
        planes: float32, written: channel c of row y + j from ``to + (c * pitch + j) * pitch`` on.
        pitch: P of the output.
    """
    length = 3 * width
    padded = whole_vectors(length)
    for j in range(min(LANES, stop - y)):
        first = start + first_y[y + j] * step
        _vertical_row(image, first, step, length, weight_y, (y + j) * taps_y, taps_y, rows, j * padded)
    for x in range(0, padded, LANES):
        transpose_8x8(rows, x, padded, columns, x * LANES)
    for c in range(3):
        for x in range(0, pitch, LANES):
            sum_taps_8x8(columns, first_x, weight_x, taps_x, x, c, planes, to + c * pitch * pitch + x, pitch)
