"""Antialiased resize of a box, one output row at a time: uint8 RGB rows in, one planar float32 row out.

Vertical pass first: whole source rows are contiguous and vectorise, and the horizontal pass then runs on the output's rows only.
Taps come in groups of four, padded with zero weights, so that the inner loops are straight lines. Indices that are computed are
unsigned: Numba guards signed ones against negative values, and such a loop does not vectorise.

Filter definition: Pillow's and torchvision's ``antialias=True``; the support grows with the downscale ratio.
"""

# Axes: H W source pixels of the box, S output pixels, K taps (a multiple of 4).

from __future__ import annotations

import math

import numpy as np

from hvs_data.kernels.render.numba.compile import jit

GROUP = 4
_1, _2, _3, _4 = np.uintp(1), np.uintp(2), np.uintp(3), np.uintp(4)
_6, _9 = np.uintp(6), np.uintp(9)


@jit
def count_taps(source: int, size: int, bicubic: bool) -> int:
    """Most taps that any output pixel has, rounded up to whole groups."""
    support = (2.0 if bicubic else 1.0) * max(source / size, 1.0)
    taps = min(int(math.floor(2.0 * support)) + 1, source)
    return (taps + GROUP - 1) // GROUP * GROUP


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
def fill_taps(source, size, bicubic, reverse, taps, first_S, weight_SK):
    """Compute the first source pixel and the weights of every output pixel.

    Args:
        source: pixels along the box's side.
        size: S.
        bicubic: Keys' cubic with a = -0.5 instead of the triangle.
        reverse: mirror the output.
        taps: K of this side.
        first_S: uint64 [>= S], written.
        weight_SK: float32 [>= S * K], written; each row sums to 1.
    """
    scale = source / size
    stretch = max(scale, 1.0)
    support = (2.0 if bicubic else 1.0) * stretch
    for x in range(size):
        centre = (x + 0.5) * scale
        start = max(int(centre - support + 0.5), 0)
        stop = min(int(centre + support + 0.5), source)
        total = 0.0
        for k in range(start, stop):
            total += _filter((k - centre + 0.5) / stretch, bicubic)
        # Padded taps are read, with weight 0: shift the window back from the far border while the box is wide enough.
        base = max(min(start, source - taps), 0)
        to = size - 1 - x if reverse else x
        first_S[to] = base
        for k in range(taps):
            inside = start <= base + k < stop
            weight_SK[to * taps + k] = _filter((base + k - centre + 0.5) / stretch, bicubic) / total if inside else 0.0


@jit
def vertical_row(image_HWC, top, left, height, width, first, weight_K, taps, row):
    """Weighted sum of source rows: float32 [3 * width], on the 0-255 scale.

    Args:
        image_HWC: uint8.
        top, left, height, width: the box.
        first: first source row, counted from the box's top.
        weight_K: float32 [K].
        row: float32 [>= 3 * width], written.
    """
    flat = image_HWC.reshape(image_HWC.shape[0], image_HWC.shape[1] * 3)
    start, length = left * 3, width * 3
    target = row[:length]
    for group in range(0, taps, GROUP):
        last = height - 1
        a = flat[top + min(first + group, last), start : start + length]
        b = flat[top + min(first + group + 1, last), start : start + length]
        c = flat[top + min(first + group + 2, last), start : start + length]
        d = flat[top + min(first + group + 3, last), start : start + length]
        wa, wb, wc, wd = weight_K[group], weight_K[group + 1], weight_K[group + 2], weight_K[group + 3]
        if group == 0:
            for j in range(length):
                target[j] = wa * np.float32(a[j]) + wb * np.float32(b[j]) + wc * np.float32(c[j]) + wd * np.float32(d[j])
        else:
            for j in range(length):
                target[j] += wa * np.float32(a[j]) + wb * np.float32(b[j]) + wc * np.float32(c[j]) + wd * np.float32(d[j])


@jit
def horizontal_row(row, first_S, weight_SK, taps, size, red, green, blue):
    """Weighted sums along a row.

    Args:
        row: float32 [>= 3 * (width + 1)], interleaved RGB.
        first_S, weight_SK: from :func:`fill_taps`.
        red, green, blue: float32 [S], written, on the scale of ``row``.
    """
    groups = taps // GROUP
    w = np.uintp(0)
    for x in range(size):
        i = first_S[x] * _3
        r = g = b = np.float32(0)
        for _ in range(groups):
            wa, wb, wc, wd = weight_SK[w], weight_SK[w + _1], weight_SK[w + _2], weight_SK[w + _3]
            r += wa * row[i] + wb * row[i + _3] + wc * row[i + _6] + wd * row[i + _9]
            g += wa * row[i + _1] + wb * row[i + _1 + _3] + wc * row[i + _1 + _6] + wd * row[i + _1 + _9]
            b += wa * row[i + _2] + wb * row[i + _2 + _3] + wc * row[i + _2 + _6] + wd * row[i + _2 + _9]
            w += _4
            i += _9 + _3
        red[x], green[x], blue[x] = r, g, b
