"""The plain PyTorch renderer against torchvision (run in float64), Pillow, colorsys and the written definitions.

Tolerances are worst-case rounding analyses, in units of u, the unit roundoff (half of ``finfo.eps``). Torchvision's tensor code takes
.2989 where the grey weight of red is .299, and its hue is float32 whatever the input: where these two enter, the bounds say so.
"""

# Axes: B image, V view, C channel, H W pixels, S side, K taps.

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from hvs_data.kernels.render.reference import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    blur_radius,
    gaussian_blur,
    gray,
    normalize_pixels,
    render_reference,
    resize,
    resize_weights,
    solarize,
)
from hvs_data.types import IMAGENET_MEAN, IMAGENET_STD, RenderSpec
from render_bounds import (
    ABSOLUTE_SUM,
    U32,
    U64,
    assert_within,
    blend_error,
    blur_error,
    gray_error,
    hue_error,
    mean_gray_error,
    resize_error,
    unit_roundoff,
)
from render_material import INTERPOLATIONS, photo, plain_rows
from torchvision_gaps import DTYPES, GRAY_GAP, HUE_TORCHVISION, mode


def unit_pixels(size: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """[3, S, S] on the 0-1 scale with grey pixels, ties between channels, black, white and pure colours. S is at least 4."""
    x = torch.rand(3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)
    x[:, 0] = x[0, 0]
    for row, (first, second) in enumerate([(0, 1), (1, 2), (2, 0)], start=1):
        x[first, row] = x[second, row]
    x[:, :, 0], x[:, :, 1] = 0, 1
    x[1:, :, 2] = 0
    return x


# --- resize ------------------------------------------------------------------------------------------------------------


def weights_by_definition(source: int, size: int, interpolation: str) -> np.ndarray:
    """Tap by tap, in Python floats, as Pillow's and torch's C++ do."""

    def cubic(d: float) -> float:
        d = abs(d)
        if d < 1:
            return 1.5 * d**3 - 2.5 * d**2 + 1
        return -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d < 2 else 0.0

    weigh, radius = (cubic, 2) if interpolation == "bicubic" else (lambda d: max(1 - abs(d), 0.0), 1)
    scale = source / size
    stretch = max(scale, 1.0)
    weight = np.zeros((size, source))
    for x in range(size):
        centre = (x + 0.5) * scale
        first = max(int(centre - radius * stretch + 0.5), 0)
        last = min(int(centre + radius * stretch + 0.5), source)
        taps = [weigh((k - centre + 0.5) / stretch) for k in range(first, last)]
        weight[x, first:last] = np.array(taps) / sum(taps)
    return weight


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 64), st.sampled_from(INTERPOLATIONS))
def test_weights_follow_the_definition_and_sum_to_one(source: int, size: int, interpolation: str) -> None:
    weight = resize_weights(source, size, interpolation)
    assert weight.shape == (size, source) and weight.dtype == torch.float64
    assert_within(weight.sum(dim=1), torch.ones(size), (source + 1) * ABSOLUTE_SUM * U64)
    expected = torch.from_numpy(weights_by_definition(source, size, interpolation))
    # see resize_error: per tap, relative to a sum of raw weights of at least a half; twice for normalisation, twice for both sides
    assert_within(weight, expected, 8 * (6 * min(source, size) + 46) * U64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 120), width=st.integers(1, 120), size=st.integers(1, 50), seed=st.integers(0, 2**31))
def test_resize_is_torchvisions(dtype: torch.dtype, interpolation: str, height: int, width: int, size: int, seed: int) -> None:
    x = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed)).round(decimals=1).to(dtype)
    expected = tv.resize(x.double(), [size, size], interpolation=mode(interpolation), antialias=True).clamp(0, 1)
    actual = resize(x, size, interpolation)
    assert actual.dtype == dtype
    assert_within(actual, expected, resize_error(height, width, size, dtype))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("height", "width", "size"), [(61, 83, 24), (7, 5, 40), (1, 33, 9), (1, 1, 4), (90, 2, 31)])
def test_resize_is_pillows(interpolation: str, height: int, width: int, size: int) -> None:
    channel = photo(height, width)[..., 0].float() / 255
    resample = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[interpolation]
    # mode "F" computes in float64 and keeps float32 after each of its two passes: values of at most 1.25 and 1.5625
    expected = torch.from_numpy(np.array(Image.fromarray(channel.numpy()).resize((size, size), resample))).clamp(0, 1)
    kept = (ABSOLUTE_SUM * ABSOLUTE_SUM + ABSOLUTE_SUM**2) * U32
    actual = resize(channel.double()[None], size, interpolation)[0]
    assert_within(actual, expected, kept + resize_error(height, width, size, torch.float64))


def test_bicubic_overshoot_is_cut_off() -> None:
    edge = torch.zeros(3, 8, 8, dtype=torch.float64)
    edge[..., 4:] = 1
    overshooting = tv.resize(edge, [24, 24], interpolation=InterpolationMode.BICUBIC, antialias=True)
    assert overshooting.min() < -0.01 and overshooting.max() > 1.01
    assert_within(resize(edge, 24, "bicubic"), overshooting.clamp(0, 1), resize_error(8, 8, 24, torch.float64))


# --- colour ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_gray_is_the_weighted_sum(dtype: torch.dtype) -> None:
    x = unit_pixels(9, dtype)
    red, green, blue = x.double()
    assert_within(gray(x)[0], 0.299 * red + 0.587 * green + 0.114 * blue, gray_error(dtype) + gray_error(torch.float64))
    torchvisions = tv.rgb_to_grayscale(x.double())
    assert_within(gray(x), torchvisions + GRAY_GAP * x.double()[:1], gray_error(dtype) + gray_error(torch.float64))


def test_gray_is_pillows_up_to_its_rounding() -> None:
    image = photo(40, 50)
    # Pillow rounds to the nearest level; its weights are whole multiples of 2^-16, each off by at most half of one
    pillows = torch.from_numpy(np.array(Image.fromarray(image.numpy()).convert("L")))
    assert_within(gray(image.permute(2, 0, 1).double() / 255)[0] * 255, pillows, 0.5 + 3 * 255 * 2.0**-17)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.4, 1.8])
def test_brightness_is_torchvisions(dtype: torch.dtype, factor: float) -> None:
    x = unit_pixels(9, dtype)
    # rounding of the factor and of the product
    assert_within(adjust_brightness(x, factor), tv.adjust_brightness(x.double(), factor), 2 * factor * (unit_roundoff(dtype) + U64))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.4, 1.8])
@pytest.mark.parametrize(
    ("ours", "torchvisions", "other_error"),
    [
        (adjust_contrast, tv.adjust_contrast, lambda dtype: mean_gray_error(81, dtype)),
        (adjust_saturation, tv.adjust_saturation, gray_error),
    ],
)
def test_contrast_and_saturation_are_torchvisions(
    dtype: torch.dtype, factor: float, ours: Callable, torchvisions: Callable, other_error: Callable
) -> None:
    x = unit_pixels(9, dtype)
    gap = abs(1 - factor) * GRAY_GAP
    rounding = sum(blend_error(factor, other_error(each), each) for each in (dtype, torch.float64))
    assert_within(ours(x, factor), torchvisions(x.double(), factor), gap + rounding)

    # where nothing clamps, the gap is known exactly: (1 - f) * .0001 * red, or its mean
    inside = 0.4 + 0.2 * x
    red = inside.double()[:1]
    known_gap = (1 - factor) * GRAY_GAP * (red.mean() if ours is adjust_contrast else red)
    expected = torchvisions(inside.double(), factor)
    assert expected.min() > 0 and expected.max() < 1
    assert_within(ours(inside, factor), expected + known_gap, rounding + 4 * U64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("turns", [-0.5, -0.2, -0.1, -1e-9, 0.0, 0.05, 1 / 6, 0.31, 0.5])
def test_hue_is_torchvisions(dtype: torch.dtype, turns: float) -> None:
    x = unit_pixels(9, dtype)
    assert_within(adjust_hue(x, turns), tv.adjust_hue(x.double(), turns), hue_error(dtype) + HUE_TORCHVISION)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("turns", [-0.5, -0.1, 0.05, 1 / 3, 0.5])
def test_hue_is_that_of_colorsys(dtype: torch.dtype, turns: float) -> None:
    x = unit_pixels(9, dtype)
    shifted = []
    for pixel in x.double().reshape(3, -1).T.tolist():
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        shifted.append(colorsys.hsv_to_rgb((hue + turns) % 1.0, saturation, value))
    expected = torch.tensor(shifted, dtype=torch.float64).T.reshape_as(x)
    # colorsys takes the steps that torchvision takes, in float64
    assert_within(adjust_hue(x, turns), expected, hue_error(dtype) + HUE_TORCHVISION / U32 * U64)


@pytest.mark.parametrize("dtype", DTYPES)
def test_whole_turns_and_factors_of_one_change_nothing(dtype: torch.dtype) -> None:
    x = unit_pixels(9, dtype)
    assert torch.equal(adjust_brightness(x, 1.0), x)
    assert torch.equal(adjust_contrast(x, 1.0), x)
    assert torch.equal(adjust_saturation(x, 1.0), x)
    for turns in (0.0, 1.0, -1.0):
        assert_within(adjust_hue(x, turns), x, hue_error(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gray_pixels_have_no_colour_to_change(dtype: torch.dtype) -> None:
    x = unit_pixels(9, dtype)[:1].expand(3, -1, -1)
    assert torch.equal(adjust_hue(x, 0.3), x)
    assert_within(gray(x).expand_as(x), x, gray_error(dtype))
    assert_within(adjust_saturation(x, 1.7), x, blend_error(1.7, gray_error(dtype), dtype))


# --- blur, solarize, normalise -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("size", "radius"), [(4, 1), (4, 3), (13, 5), (24, 11), (24, 23)])
@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.7, 2.0, 50.0])
def test_blur_is_torchvisions(dtype: torch.dtype, size: int, radius: int, sigma: float) -> None:
    x = unit_pixels(size, dtype)
    kernel = 2 * radius + 1
    expected = tv.gaussian_blur(x.double(), [kernel, kernel], [sigma, sigma])
    assert_within(gaussian_blur(x, sigma, radius), expected, blur_error(radius, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_blur_that_is_too_narrow_to_see_changes_nothing(dtype: torch.dtype) -> None:
    x = unit_pixels(6, dtype)
    # the neighbours' weight underflows; sigma is the smallest that a float32 row can hold
    assert torch.equal(gaussian_blur(x, 2.0**-149, 3), x)
    assert torch.equal(gaussian_blur(x[:, :1, :1], 1.0, 0), x[:, :1, :1])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40), st.integers(1, 300), st.integers(1, 300))
def test_the_blur_radius_scales_with_the_view(radius: int, slot_size: int, size: int) -> None:
    scaled = math.floor(Fraction(radius * size, slot_size) + Fraction(1, 2))
    assert blur_radius(2 * radius + 1, slot_size, size) == min(size - 1, max(1, scaled))


def test_the_blur_scales_with_the_view() -> None:
    # sigma 2 and 9 taps at 224 are sigma 1 and radius 2 at 112
    assert blur_radius(9, 224, 224) == 4 and blur_radius(9, 224, 112) == 2
    image = photo(112, 112)
    params = replace(plain_rows([[(0, 0, 112, 112)]], spec=RenderSpec(blur_kernel=9)), blur_sigma=torch.full((1, 1), 2.0))
    expected = tv.gaussian_blur(image.permute(2, 0, 1).double() / 255, [5, 5], [1.0, 1.0])
    actual = render_reference([image], params, 112, normalize=False)[0, 0]
    assert_within(actual, expected, resize_error(112, 112, 112, torch.float64) + blur_error(2, torch.float64))


@pytest.mark.parametrize("dtype", DTYPES)
def test_solarize_is_that_of_the_8_bit_code(dtype: torch.dtype) -> None:
    levels = torch.arange(256, dtype=dtype)
    inverted = solarize(levels / 255, RenderSpec().solarize_threshold) * 255
    expected = torch.where(levels >= 128, 255 - levels, levels)
    # quotient, difference and product, of numbers of at most 255
    assert_within(inverted, expected, 255 * 3 * unit_roundoff(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threshold", [0.0, 0.3, 128 / 255, 1.0])
def test_solarize_and_normalise_are_torchvisions(dtype: torch.dtype, threshold: float) -> None:
    x = unit_pixels(9, dtype)
    assert torch.equal(solarize(x, threshold), tv.solarize(x, threshold))
    assert torch.equal(normalize_pixels(x, IMAGENET_MEAN, IMAGENET_STD), tv.normalize(x, list(IMAGENET_MEAN), list(IMAGENET_STD)))
