"""Weights of the antialiased resize, computed in float64 and kept in float32 for the kernel that resizes.

Definition: Pillow's and torch's ``antialias=True``; the support grows with the downscale ratio. Source of the cubic filter: Keys 1981,
with a = -0.5.
"""

# mypy: disable-error-code="no-untyped-def"
# Axes: N row (one view), Y X pixels of a view, K taps.

from __future__ import annotations

import math

import triton
import triton.language as tl

from hvs_data.kernels.numba_compile import exact_jit
from hvs_data.kernels.render.triton.tables import ACROSS, BAND, BAND_ROWS, FLIP, PLACES, SIDE, TAPS, TIMES_FACTOR, TIMES_SUM, WHOLES


@exact_jit
def count_taps(source, size, bicubic):
    """Most taps that any output pixel has, for a length of a source; whole numbers."""
    support = (2.0 if bicubic else 1.0) * max(source / size, 1.0)
    return min(int(math.ceil(2.0 * support)), source)


@exact_jit
def count_band_rows(source, size, bicubic, tile_y):
    """At least as many source rows as a tile's outputs have taps in, and an even number, as rows are resized in pairs."""
    # first taps of two outputs lie at most their distance apart, rounded up; one more for the rounding of the zoom
    rows = min(int(math.floor((tile_y - 1) * source / size)) + 2 + count_taps(source, size, bicubic), source)
    return rows + rows % 2


@triton.jit
def _filter(distance, bicubic: tl.constexpr):
    x = tl.abs(distance)
    if bicubic:
        near = (1.5 * x - 2.5) * x * x + 1.0
        far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
        value = tl.where(x < 1.0, near, tl.where(x < 2.0, far, 0.0))
    else:
        value = tl.maximum(1.0 - x, 0.0)
    return value


@triton.jit
def _first_and_last(centre, support, source, taps):
    """The pixels named as taps of outputs with these centres: from the first to before the last."""
    start = tl.maximum((centre - support + 0.5).to(tl.int32), 0)
    # where rounding makes one tap more than there can be, the last one has no weight
    stop = tl.minimum(tl.minimum((centre + support + 0.5).to(tl.int32), source), start + taps)
    return start, stop


@triton.jit
def _first_of_tile(base, tile_y: tl.constexpr, block: tl.constexpr):
    """For each output the first tap of its tile's first output: the least of the tile, as first taps never fall from output to output.

    Computed anew from the centre, it might come out one off: compilers fuse the same formula's products and sums in one place and not in
    another, which decides ties.
    """
    least = tl.min(tl.reshape(base, (block // tile_y, tile_y)), axis=1)
    return tl.reshape(tl.broadcast_to(least[:, None], (block // tile_y, tile_y)), (block,))


@triton.jit
def fill_taps(
    place,
    whole,
    first,
    weight,
    size_y: tl.constexpr,
    size_x: tl.constexpr,
    bicubic: tl.constexpr,
    tile_y: tl.constexpr,
    block: tl.constexpr,
):
    """The taps of one row along one axis; the programs are [N, 2], of the vertical and the horizontal axis.

    place, whole: see tables.py. first: int32 [N, Y + X], written: each output's first tap, first those of the
    vertical axis; all K taps from there lie in the box.
    weight: float32, written. Horizontal ones sum to TIMES_FACTOR, tap k of output x at [k, x], mirrored where the row is flipped. Vertical
    ones sum to TIMES_SUM / 255, at [tile, source row since the tile's first tap, output of the tile], and are 0 where a row is no tap of
    an output.
    block: a power of two, at least Y, X and tile_y.
    """
    row = (tl.program_id(0) // 2).to(tl.int64)
    axis = tl.program_id(0) % 2
    place += row * PLACES
    whole += row * WHOLES
    first += row * (size_y + size_x) + axis * size_y
    size = tl.where(axis == 0, size_y, size_x)
    source = tl.load(whole + SIDE + axis)
    taps = tl.load(whole + TAPS + axis)
    zoom = source.to(tl.float64) / size
    stretch = tl.maximum(zoom, 1.0)
    support = stretch * 2.0 if bicubic else stretch
    narrow = 1.0 / stretch  # float64 quotients are slow

    lane = tl.arange(0, block)
    # what lies past the last output repeats it
    x = tl.minimum(lane, size - 1)
    centre = (x.to(tl.float64) + 0.5) * zoom
    start, stop = _first_and_last(centre, support, source, taps)
    base = tl.minimum(start, source - taps)
    total = tl.zeros((block,), tl.float64)
    for k in range(taps):
        total += tl.where(start + k < stop, _filter((start + k - centre + 0.5) * narrow, bicubic), 0.0)

    if axis == 0:
        share = TIMES_SUM / 255.0 / total
        rows = tl.load(whole + BAND_ROWS)
        tile = lane // tile_y
        top = _first_of_tile(base, tile_y, block)
        at = weight + tl.load(place + BAND) * tile_y + tile * rows * tile_y + lane % tile_y
        tl.store(first + x, base, mask=lane < size)
        for k in range(rows):
            value = _filter((top + k - centre + 0.5) * narrow, bicubic) * share
            value = tl.where((top + k >= start) & (top + k < stop), value, 0.0)
            tl.store(at + k * tile_y, value.to(tl.float32), mask=lane < (size_y + tile_y - 1) // tile_y * tile_y)
    else:
        share = TIMES_FACTOR / total
        to = tl.where(tl.load(whole + FLIP) != 0, size_x - 1 - x, x)
        at = weight + tl.load(place + ACROSS) + to
        tl.store(first + to, base, mask=lane < size)
        for k in range(taps):
            value = _filter((base + k - centre + 0.5) * narrow, bicubic) * share
            value = tl.where((base + k >= start) & (base + k < stop), value, 0.0)
            tl.store(at + k * size_x, value.to(tl.float32), mask=lane < size)
