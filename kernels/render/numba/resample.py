"""Antialiased resize of a box, a vector of output rows at a time: rows of pixels in, planar float32 rows on the 0-1 scale out.

The vertical pass comes first: whole source rows are contiguous, and the horizontal pass then has the output's rows only. For that one,
the rows are transposed, so that a source pixel's values in all of them lie side by side and one weight multiplies them all at once.

Filter definition: Pillow's and torchvision's ``antialias=True``; the support grows with the downscale ratio.
"""

# Axes: H W source pixels of the box, S output pixels along one side, K taps.

from __future__ import annotations

import math

import numpy as np

from hvs_data.kernels.numba_compile import LANES, jit
from hvs_data.kernels.render.numba.vector import (
    PIECE,
    TOGETHER,
    advanced,
    floats_of_bytes,
    prefer_long_vectors,
    sum_rows_1,
    sum_rows_8,
    sum_taps,
    sum_taps_1,
    transpose_piece,
)

# Of 32 KiB that the nearest cache of any processor holds, three quarters; the rest is for what is made of a tile.
TILE_FLOATS = 6144
# Of a row of a tile: LANES rows of sums as wide as it lie beside it.
MAX_TILE_WIDTH = 512


@jit
def whole_vectors(length: int) -> int:
    """The next multiple of LANES."""
    return (length + LANES - 1) // LANES * LANES


@jit
def count_taps(source: int, size: int, bicubic: bool) -> int:
    """Most taps that any output pixel has."""
    support = (2.0 if bicubic else 1.0) * max(source / size, 1.0)
    return min(int(math.ceil(2.0 * support)), source)


@jit
def filter_weight(distance: float, bicubic: bool) -> float:
    """Of a source pixel at this distance from an output pixel's centre."""
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
            total += filter_weight((k - centre + 0.5) / stretch, bicubic)
        base = min(start, source - taps)
        to = size - 1 - x if reverse else x
        first_S[to] = base
        place = to // group * group * taps + to % group
        for k in range(taps):
            inside = start <= base + k < stop
            weight[place + group * k] = scale * filter_weight((base + k - centre + 0.5) / stretch, bicubic) / total if inside else 0.0
    for x in range(size, (size + group - 1) // group * group):
        first_S[x] = 0
        for k in range(taps):
            weight[x // group * group * taps + group * k + x % group] = 0.0
    return taps


@jit
def block_rows(source: int, size: int, taps: int) -> int:
    """Most source pixels that the taps of LANES neighbouring output pixels reach."""
    return min(int(math.ceil((LANES - 1) * (source / size))) + taps + 1, source)


@jit
def tile_width(rows: int) -> int:
    """Floats of a row of a tile of so many rows, such that the tile lies in the nearest cache; at least four vectors."""
    return min(max(TILE_FLOATS // rows // LANES, 4) * LANES, MAX_TILE_WIDTH)


@jit
def tile_floats(rows: int) -> int:
    """Most floats of a tile of so many rows, or of fewer."""
    return max(TILE_FLOATS, rows * 4 * LANES)


@jit
def _convert(image, start, step, rows, length, tile, pitch):
    """tile[pitch r + x] = image[start + step r + x] for r < rows, x < length."""
    for r in range(rows):
        at, to = start + r * step, r * pitch
        x = 0
        while x + LANES <= length:
            floats_of_bytes(image, at + x, tile, to + x)
            x += LANES
        if x < length and length >= LANES:  # the last vector overlaps the one before
            floats_of_bytes(image, at + length - LANES, tile, to + length - LANES)
        elif x < length:
            for j in range(length):
                tile[to + j] = np.float32(image[at + j])


@jit
def _convert_levels(image, start, step, rows, length, low, factor, tile, pitch):
    """tile[pitch r + x] = (image[start + step r + x] - low[x]) factor[x], clipped to [0, 1], for r < rows, x < length."""
    prefer_long_vectors()
    for r in range(rows):
        at, to = start + r * step, r * pitch
        for x in range(length):
            value = (np.float32(image[at + x]) - low[x]) * factor[x]
            tile[to + x] = min(max(value, np.float32(0)), np.float32(1))


@jit
def _fill_tile(image, start, step, rows, left, length, channels, levels, tile, pitch):
    """The columns from ``left`` on of a tile's rows, as floats. Which branch is compiled depends on the type of ``levels``."""
    if levels is None:
        _convert(image, start + left, step, rows, length, tile, pitch)
    else:
        low, factor = levels
        phase = left % channel_count(channels)
        _convert_levels(image, start + left, step, rows, length, advanced(low, phase), advanced(factor, phase), tile, pitch)


@jit
def channel_count(channels):
    """How many channels there are, where None stands for red, green and blue, which are compiled for on their own."""
    if channels is None:
        return 3
    else:  # noqa: RET505 - one of the two is compiled
        return channels


@jit
def _sum_channels(columns, first_x, weight_x, taps_x, x, channels, planes, to, pitch, plane):
    """Eight outputs of LANES rows of all channels."""
    if channels is None:
        for c in range(0, 3, TOGETHER):
            sum_taps(columns, first_x, weight_x, taps_x, x, 3, c, planes, to + c * plane + x, pitch, plane)
    else:
        for c in range(channels):
            sum_taps_1(columns, first_x, weight_x, taps_x, x, channels, c, planes, to + c * plane + x, pitch, plane)


@jit
def _sum_rows(tile, start, pitch, length, weight, at, taps, out, to):
    """out[to + x] = weighted sum over the taps of a tile's rows, for x < length and up to a whole vector."""
    x = 0
    while x + 8 * LANES <= length:
        sum_rows_8(tile, start + x, pitch, weight, at, taps, out, to + x)
        x += 8 * LANES
    while x < length:
        sum_rows_1(tile, start + x, pitch, weight, at, taps, out, to + x)
        x += LANES


@jit
def resize_rows(
    image, step, start, width, y, size_y, size_x, taps_y, first_y, weight_y, taps_x, first_x, weight_x, tile, rows, columns, planes, to,
    pitch, plane, channels, levels,
):  # fmt: skip
    """Output rows ``y`` to ``y + LANES - 1`` of all channels, clamped to [0, 1], which bicubic weights overshoot.

    Args:
        image: uint8, uint16 or float32, one-dimensional, rows of pixels ``step`` apart; the box begins at ``start`` and is
            ``width`` pixels wide.
        y: the first output row. What is in the place of rows from ``size_y`` on is undefined.
        size_y, size_x: output rows and columns.
        taps_y .. weight_x: from :func:`fill_taps`, ``weight_y`` in groups of 1, ``weight_x`` in groups of 8; ``weight_y`` with
            sums of 1 / 255 for bytes without ``levels``.
        tile, rows, columns: float32, scratch: [>= :func:`tile_floats` of :func:`block_rows`], [>= LANES * MAX_TILE_WIDTH],
            [>= LANES * C * width rounded up to whole vectors].
        planes: float32, written: channel c of row y + j from ``to + c * plane + j * pitch`` on.
        pitch, plane: distances of rows and of channels in it.
        channels: None for red, green and blue; else C, whose pixels take part one channel after the other.
        levels: None for bytes from 0 to 255; else which value of each channel is 0, and one over its distance from that which is 1:
            float32 [MAX_TILE_WIDTH + C] each, repeated every C elements.
    """
    wanted = min(LANES, size_y - y)
    above = first_y[y]
    reached = first_y[y + wanted - 1] + taps_y - above
    length = channel_count(channels) * width
    tile_pitch = tile_width(reached)
    # columns by columns: what is converted to floats, once, is read for as many output rows as it has a weight in
    for left in range(0, length, tile_pitch):
        here = min(tile_pitch, length - left)
        _fill_tile(image, start + above * step, step, reached, left, here, channels, levels, tile, tile_pitch)
        for j in range(wanted):
            down = (first_y[y + j] - above) * tile_pitch
            _sum_rows(tile, down, tile_pitch, here, weight_y, (y + j) * taps_y, taps_y, rows, j * tile_pitch)
        for x in range(0, here, PIECE):
            transpose_piece(rows, x, tile_pitch, columns, (left + x) * LANES)
    for x in range(0, size_x, PIECE):
        _sum_channels(columns, first_x, weight_x, taps_x, x, channels, planes, to, pitch, plane)
