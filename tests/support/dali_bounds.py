"""How far the engine "dali-kornia" may be from the reference: what DALI's filter tables and Kornia's arithmetic add to the analyses of
:mod:`render_bounds`.
"""

# Axes: S side, K source pixels.

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from hvs_data.arguments.sizes import Size, height_width
from hvs_data.kernels.render.reference import keys_cubic
from hvs_data.types import ViewParams
from render_bounds import ABSOLUTE_SUM, row_error, unit_roundoff

U = unit_roundoff(torch.float32)
# DALI's table of the cubic filter has 129 entries from -2 to 2, between which it interpolates linearly. Of the triangle it has the three
# corners, between which that is exact.
TABLE_STEP = 4 / 128
# Kornia takes hue through radians. In sixths of a turn: differences of channels, their sum with 2 or 4 chromas, and the quotient 22 u; the
# sixth and the remainder in turns, 2 roundings of up to 6 sixths, 12 u; times 2 pi, plus the shift, remainder and back, 8 roundings of
# numbers of up to 9 sixths, 72 u; twice times 6 and remainder, 3 roundings of up to 6, 18 u. That moves a channel by as much times chroma;
# saturation's eps, 1e-8 or 1e-6 by version, moves it by eps; its quotient and the last products and differences by 8 u.
KORNIA_HUE_GAP = (22 + 12 + 72 + 18 + 8) * U + 1e-6


def _table_cubic(distance: Tensor) -> Tensor:
    d = distance.abs().clamp_max(2)
    below = (d / TABLE_STEP).floor() * TABLE_STEP
    share = (d - below) / TABLE_STEP
    return (1 - share) * keys_cubic(below) + share * keys_cubic(below + TABLE_STEP)


@cache
def axis_gap(length: int, size: int, interpolation: str) -> float:
    """What a filter table makes of the weights along one side: the largest sum of absolute differences in an output pixel.

    DALI divides by the sum of all taps, including those that meet the frame of zeros, and the engine by the exact filter's share of the
    taps inside.
    """
    if interpolation == "bilinear":
        return 0.0
    scale = length / size
    stretch = max(scale, 1.0)
    frame = math.ceil(2 * stretch) + 1
    pixel_K = torch.arange(-frame, length + frame, dtype=torch.float64) + 0.5
    inside = slice(frame, frame + length)
    distance_SK = (pixel_K - (torch.arange(size, dtype=torch.float64)[:, None] + 0.5) * scale) / stretch
    exact_SK, table_SK = keys_cubic(distance_SK), _table_cubic(distance_SK)
    share_S1 = exact_SK[:, inside].sum(1, keepdim=True) / exact_SK.sum(1, keepdim=True)
    wanted_SK = exact_SK[:, inside] / exact_SK[:, inside].sum(1, keepdim=True)
    actual_SK = table_SK[:, inside] / table_SK.sum(1, keepdim=True) / share_S1
    return float((actual_SK - wanted_SK).abs().sum(1).max())


def resize_gap(height: int, width: int, size: Size, interpolation: str) -> float:
    """What DALI's resize adds to the rounding of pixel sums."""
    axes = list(zip((height, width), height_width(size), strict=True))
    gaps = [axis_gap(*axis, interpolation) for axis in axes]
    tables = ABSOLUTE_SUM * sum(gaps) + math.prod(gaps)
    # DALI computes weights in float32. A distance, in units of stretch: 4 roundings of positions of at most the length and the frames,
    # which the stretch makes min(length, size) + 8; its place in the table 12 u.
    distance = (4 * (max(map(min, axes)) + 8) + 12) * U
    # A unit of stretch has so many taps at most, at slopes of that much at most; evaluating a weight takes another 3 u.
    taps, slope, absolute_sum = (3, 1.0, 1.0) if interpolation == "bilinear" else (5, 1.5, ABSOLUTE_SUM)
    # Raw sums are at least half the stretch, and normalisation adds the error of the sum. The division by a share, itself at least 1/2, of
    # weights that err as much doubles that and adds it. Two axes, each with the other one's absolute sum.
    weights = 2 * 3 * 2 * (1 + absolute_sum) * taps * (slope * distance + 3 * U) * absolute_sum
    # the shares of both axes rounded, their product with 255, and the quotient
    return tables + weights + 5 * U * ABSOLUTE_SUM**2


def dali_row_error(params: ViewParams, b: int, v: int, size: Size) -> float:
    """As :func:`render_bounds.row_error`, of the engine "dali-kornia"."""
    gap = resize_gap(*params.box[b, v, 2:].tolist(), size, params.spec.interpolation)
    return row_error(params, b, v, size, torch.float32, hue_gap=KORNIA_HUE_GAP, resize_gap=gap)
