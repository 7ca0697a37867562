"""How far apart two renderers may be: worst-case rounding analyses of every operation and of whole rows.

All bounds are of values on the 0-1 scale, in units of u, the unit roundoff (half of ``finfo.eps``); of the two sides compared, one
computes in the dtype given, the other in float64.
"""

# Axes: B image, V view.

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from hvs_data.arguments.sizes import Size, height_width
from hvs_data.types import ViewParams

U32, U64 = 2.0**-24, 2.0**-53

# Absolute weights of an output pixel sum to at most 1.25: Keys' kernel at a distance of 1/2 to its taps, (.5625 + .0625) / (.5625 - .0625)
# where the border cuts the taps of one side off, 2 * .5625 + 2 * .0625 elsewhere.
ABSOLUTE_SUM = 1.25
# In sectors, the middle channel moves linearly with the colour: from min + c f to min + c (f + s) or, past the corner, to
# max - c (f + s - 1), with c = max - min and c f = mid - min: coefficients whose absolute values sum to at most 3. The other two channels
# only change places, and pieces meet continuously, so no input error grows by more than this.
HUE_SLOPE = 3


def unit_roundoff(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps / 2


# --- each operation of ours ----------------------------------------------------------------------------------------------


def resize_error(height: int, width: int, size: Size, dtype: torch.dtype) -> float:
    """Largest difference of two resizes, one in this dtype (with weights from float64), one in float64."""
    axes = list(zip((height, width), height_width(size), strict=True))

    # Division by 255, rounding of the weights on both sides, then two dot products of so many terms that are not 0.
    sums = (sum(_most_taps(*axis) for axis in axes) + 6) * (unit_roundoff(dtype) + U64) * ABSOLUTE_SUM**2
    # A weight's distance, (k - centre + .5) / stretch, takes four roundings of numbers of at most `source`, which the division makes
    # 4 (m + 1) u with m = min(source, target); the filters' slope is at most 1.5, their evaluation at most 40 u (up to 20 each): 6 m + 46.
    # Where reciprocals stand for both divisions: 2 u of a distance of at most 2 and 1 u of the weight, 4 more.
    # At most 5 taps a unit of stretch, a sum of raw weights of at least half of it, and normalisation (factor 1 + 1.25) make 22.5 of it an
    # axis; two axes, two implementations, and the other axis' absolute sum: 112.5.
    weights = 112.5 * (6 * max(map(min, axes)) + 50) * U64
    return sums + weights


def chained_error(sides: Sequence[tuple[int, int, int]], size: Size, dtype: torch.dtype) -> float:
    """Largest difference of two resizes one after the other, clamped at the end, one in this dtype with weights from float64.

    Args:
        sides: of height and width: the source's pixels, those after the first resize, and those of the box.
    """
    # As resize_error, of one sum a side over the taps of both resizes, whose absolute sums multiply.
    axes = [(*side, target) for side, target in zip(sides, height_width(size), strict=True)]
    terms = sum(_most_taps(box, to) * math.ceil(source / resized) + _most_taps(source, resized) for source, resized, box, to in axes)
    sums = (terms + 6) * (unit_roundoff(dtype) + U64) * ABSOLUTE_SUM**4
    smaller = max(min(source, resized) + min(box, to) for source, resized, box, to in axes)
    return sums + 112.5 * (6 * smaller + 100) * U64 * ABSOLUTE_SUM**2


def _most_taps(source: int, target: int) -> int:
    return min(source, math.ceil(4 * max(source / target, 1)) + 1)


def gray_error(dtype: torch.dtype) -> float:
    # Rounding of three weights, three products, two sums.
    return 4 * unit_roundoff(dtype)


def blend_error(factor: float, other: float, dtype: torch.dtype) -> float:
    """Error of a blend whose other part has an error of `other`: rounding of both factors, both products and the sum."""
    return 3 * unit_roundoff(dtype) * (factor + abs(1 - factor)) + abs(1 - factor) * other


def mean_gray_error(terms: int, dtype: torch.dtype) -> float:
    """Error of a mean of grey values, of which so many are summed in this dtype."""
    # Whatever the order of the sum, it errs by at most (n - 1) u; one more for the division.
    return gray_error(dtype) + terms * unit_roundoff(dtype)


def hue_error(dtype: torch.dtype) -> float:
    # Chroma, a difference and their quotient: 3. The sums with 4 and with 6 turns, below 8: 4 each, and rounding of the turns 4. Two
    # differences, below 16: 8 each. The remainder, which may add 6, and 4 minus it: 4 each. Times chroma, and the last difference: 2.
    # Where all is multiplied by chroma instead: the difference 1, the sum with 4 chromas 4; turns 2, a difference below 8 and a sum below 6
    # with them 4 each; their product's sum with the hue 4; 3 chromas 2, their difference 2, largest value and chroma 1, the last
    # difference 1; chroma's own error, with 1 + 6 + 3 of it at the most, 10. Together 35.
    return 41 * unit_roundoff(dtype)


def blur_error(radius: int, dtype: torch.dtype) -> float:
    """Difference of two separable blurs, one in this dtype, one in float64 as one two-dimensional sum."""
    taps = 2 * radius + 1
    # Two dot products with rounded weights; a sum of taps^2 terms. Of the weights' exponents k^2 / (2 sigma^2), a relative error of 8 u
    # counts with the weighted mean of the exponent, at most 1/2 an axis and implementation; normalisation doubles it.
    return 2 * (taps + 2) * unit_roundoff(dtype) + (taps**2 + 4 + 32) * U64


# --- whole rows --------------------------------------------------------------------------------------------------------------


def row_error(
    params: ViewParams,
    b: int,
    v: int,
    size: Size,
    dtype: torch.dtype,
    *,
    mean_terms: int | None = None,
    resize_gap: float = 0.0,
    gray_gap: float = 0.0,
    hue_gap: float = 0.0,
    blur_gap: float = 0.0,
    kept_gap: float = 0.0,
) -> float:
    """How far a renderer in this dtype may be from one in float64 before it solarizes view v of image b.

    Errors so far are multiplied by what the next operation can make of them, then its own is added.

    Args:
        size: of the view.
        mean_terms: how many grey values the mean of a view sums in this dtype; None: all.
        resize_gap, gray_gap, hue_gap, blur_gap: by how much the two renderers' definitions of an operation differ.
        kept_gap: what storing unfinished values adds, before a contrast that changes something and before a blur.
    """
    u = unit_roundoff(dtype)
    pixels = math.prod(height_width(size))
    mean_error = mean_gray_error(mean_terms or pixels, dtype) + mean_gray_error(pixels, torch.float64)
    box = params.box[b, v, 2:].tolist()
    if params.resized is not None and params.image_size is not None and params.resized[b, v].all():
        sides = zip(params.image_size[b].tolist(), params.resized[b, v].tolist(), box, strict=True)
        error = chained_error(list(sides), size, dtype)
    else:
        error = resize_error(*box, size, dtype) + resize_gap
    brightness, contrast, saturation, hue = (
        float(value[b, v]) for value in (params.brightness, params.contrast, params.saturation, params.hue)
    )
    for operation in params.order[b, v].tolist():
        if operation == 0:
            error = brightness * (error + u + U64)
        elif operation == 1:
            error += kept_gap if contrast != 1 else 0
            error = contrast * error + blend_error(contrast, error + gray_gap + mean_error, dtype)
        elif operation == 2:
            error = saturation * error + blend_error(saturation, error + gray_gap + 2 * gray_error(dtype), dtype)
        else:
            error = HUE_SLOPE * error + hue_error(dtype) + (hue_gap if hue else 0)
    if params.gray[b, v]:
        error += gray_gap + 2 * gray_error(dtype)
    if params.blur_sigma[b, v] > 0:
        error += kept_gap + blur_gap + blur_error(scaled_radius(params, v, size), dtype)
    return error


def scaled_radius(params: ViewParams, v: int, size: Size) -> int:
    """Blur radius of slot v in pixels of a view of this size: the recipe's, scaled as its height and rounded half up, from 1 to below both
    sides (0 if one is 1)."""
    height, width = height_width(size)
    scaled = Fraction(params.spec.blur_kernel // 2 * height, height_width(params.size[v])[0])
    return min(height - 1, width - 1, max(1, math.floor(scaled + Fraction(1, 2))))


def solarize_error(x: Tensor, error: float, threshold: float, dtype: torch.dtype) -> Tensor | float:
    """Bound after solarizing values that were x, and may have been off by an error.

    Within the error of the threshold t, one renderer may invert x and the other keep its y, with t between them:
    |1 - x - y| <= |1 - 2 t| + |x - t| + |y - t|, and the last two make up |x - y|.
    """
    u = unit_roundoff(dtype)
    # rounding of the threshold
    near = (x - threshold).abs() <= error + u
    return torch.where(near, error + abs(1 - 2 * threshold), error) + 2 * u


def posterize_error(x: Tensor, bound: Tensor | float, bits: int, dtype: torch.dtype) -> Tensor:
    """Bound after posterizing values that were x, and may have been off by a bound: whole levels, none far from a step."""
    reach = (torch.as_tensor(bound) + unit_roundoff(dtype)) * 2**bits
    place = x * 2**bits
    return torch.maximum(place.floor() - (place - reach).floor(), (place + reach).floor() - place.floor()) / 2**bits


def normalize_error(bound: Tensor | float, std: Sequence[float], dtype: torch.dtype) -> Tensor:
    """Bound after normalisation, [3, 1, 1] or the shape of ``bound``."""
    # mean, std, difference and quotient are rounded; a difference is at most 1
    return (bound + 4 * unit_roundoff(dtype)) / torch.tensor(std, dtype=torch.float64)[:, None, None]


def assert_within(actual: Tensor, expected: Tensor, error: Tensor | float) -> None:
    actual, expected = actual.double(), expected.double()
    excess = (actual - expected).abs() - error
    assert actual.shape == expected.shape
    # a NaN compares as not within
    assert bool((excess <= 0).all()), f"off by up to {(actual - expected).abs().max():.3g}, beyond the bound by {excess.max():.3g}"
