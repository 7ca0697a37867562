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
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from hvs_data import recipes
from hvs_data.errors import HvsError
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
from hvs_data.recipes import ColorJitter, Recipe
from hvs_data.types import IMAGENET_MEAN, IMAGENET_STD, ImageBatch, RenderSpec, ViewParams
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
    normalize_error,
    resize_error,
    row_error,
    scaled_radius,
    solarize_error,
    unit_roundoff,
)
from render_material import INTERPOLATIONS, PRESETS, SIZES, drawn_rows, photo, plain_rows

DTYPES = (torch.float32, torch.float64)

# The grey of torchvision's tensor code is smaller by (.299 - .2989) * red, red at most 1.
GRAY_GAP = 1e-4
# Torchvision's hue, all in float32. The input's rounding counts threefold (HUE_SLOPE): 3. The position in the circle of six: ratios 3, two
# sums below 8 of 4 each: 11. Divided by 6, 2; + 1, the shift, its own rounding and the remainder, 1 each; times 6 again: 36, and its own 4.
# Saturation, 1 - s f and the product with v: 8.
HUE_TORCHVISION = 64 * U32

# --- material ----------------------------------------------------------------------------------------------------------


def unit_pixels(size: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """[3, S, S] on the 0-1 scale with grey pixels, ties between channels, black, white and pure colours. S is at least 4."""
    x = torch.rand(3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)
    x[:, 0] = x[0, 0]
    for row, (first, second) in enumerate([(0, 1), (1, 2), (2, 0)], start=1):
        x[first, row] = x[second, row]
    x[:, :, 0], x[:, :, 1] = 0, 1
    x[1:, :, 2] = 0
    return x


def mode(interpolation: str) -> InterpolationMode:
    return InterpolationMode(interpolation)


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


# --- whole recipes -----------------------------------------------------------------------------------------------------


def torchvision_view(image: Tensor, params: ViewParams, b: int, v: int, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor | float]:
    """A row's view by torchvision's public functions in float64, and how far a renderer in this dtype may be off."""
    spec = params.spec
    top, left, height, width = params.box[b, v].tolist()
    x = image.permute(2, 0, 1).double() / 255
    x = tv.resized_crop(x, top, left, height, width, [size, size], interpolation=mode(spec.interpolation), antialias=True).clamp(0, 1)
    if params.flip[b, v]:
        x = tv.horizontal_flip(x)
    brightness, contrast, saturation, hue = (
        float(value[b, v]) for value in (params.brightness, params.contrast, params.saturation, params.hue)
    )
    for operation in params.order[b, v].tolist():
        if operation == 0:
            x = tv.adjust_brightness(x, brightness)
        elif operation == 1:
            x = tv.adjust_contrast(x, contrast)
        elif operation == 2:
            x = tv.adjust_saturation(x, saturation)
        else:
            # no shift is no operation: torchvision would round to float32 for nothing
            x = tv.adjust_hue(x, hue) if hue else x
    if params.gray[b, v]:
        x = tv.rgb_to_grayscale(x, num_output_channels=3)
    sigma = float(params.blur_sigma[b, v]) * size / params.size[v]
    if sigma > 0:
        radius = scaled_radius(params, v, size)
        x = tv.gaussian_blur(x, [2 * radius + 1] * 2, [sigma, sigma])
    error = row_error(params, b, v, size, dtype, gray_gap=GRAY_GAP, hue_gap=HUE_TORCHVISION)
    bound: Tensor | float = error
    if params.solarize[b, v]:
        bound = solarize_error(x, error, spec.solarize_threshold, dtype)
        x = tv.solarize(x, spec.solarize_threshold)
    return tv.normalize(x, list(spec.mean), list(spec.std)), normalize_error(bound, spec.std, dtype)


# What each variant leaves to the bound: as published, the gap of the grey weights (about 1e-3 after all operations); without grey,
# torchvision's float32 hue (about 1e-5); without hue, rounding alone.
VARIANTS: dict[str, Callable[[Recipe], Recipe]] = {
    "as published": lambda recipe: recipe,
    "no grey": lambda recipe: recipe.with_roles(jitter=ColorJitter(0.8, 0.6, 0, 0, 0.2), gray=0),
    "no grey, no hue": lambda recipe: recipe.with_roles(jitter=ColorJitter(0.8, 0.6, 0, 0, 0), gray=0),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("preset", PRESETS)
def test_whole_recipes_are_torchvisions(preset: str, variant: str, dtype: torch.dtype) -> None:
    images = [photo(height, width, seed) for seed, (height, width) in enumerate(SIZES)]
    params = drawn_rows(VARIANTS[variant](PRESETS[preset]), images)
    for size in (32, 19):
        pixels = render_reference(ImageBatch(images), params, size, compute_dtype=dtype)
        assert pixels.shape == (len(images), params.num_views, 3, size, size) and pixels.dtype == dtype
        for b, image in enumerate(images):
            for v in range(params.num_views):
                assert_within(pixels[b, v], *torchvision_view(image, params, b, v, size, dtype))


def test_every_preset_is_rendered() -> None:
    assert {preset.partition(",")[0] for preset in PRESETS} == {name for name in recipes.__all__ if name.islower()}


def test_the_bounds_are_sharp() -> None:
    """Derived bounds can be right and worthless: these are small in normalised values, which range over 4.4."""
    images = [photo(height, width, seed) for seed, (height, width) in enumerate(SIZES)]
    for variant, dtype, most in [
        ("as published", torch.float64, 5e-3),
        ("no grey", torch.float64, 1e-4),
        ("no grey, no hue", torch.float64, 1e-10),
        ("no grey, no hue", torch.float32, 2e-4),
    ]:
        params = replace(drawn_rows(VARIANTS[variant](PRESETS["simsiam"]), images), solarize=torch.zeros(6, 4, dtype=torch.bool))
        bounds = [torchvision_view(images[b], params, b, v, 32, dtype)[1] for b in range(6) for v in range(4)]
        assert max(float(torch.as_tensor(bound).max()) for bound in bounds) < most


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [1, 2, 33])
def test_a_box_of_one_pixel_is_a_view_of_one_colour(interpolation: str, size: int) -> None:
    image = photo(11, 13)
    spec = RenderSpec(interpolation=interpolation)
    boxes = [(0, 0, 1, 1), (10, 12, 1, 1), (5, 0, 1, 1), (3, 7, 1, 1)]
    pixels = render_reference([image], plain_rows([boxes], spec=spec), size, normalize=False)[0]
    for (top, left, _, _), view in zip(boxes, pixels, strict=True):
        colour = image[top, left].double()[:, None, None] / 255
        assert_within(view, colour.expand_as(view), resize_error(1, 1, size, torch.float64))


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("preset", ["byol", "dino, paper", "dinov2, paper"])
def test_the_smallest_views_are_torchvisions(preset: str, size: int) -> None:
    images = [photo(height, width) for height, width in ((30, 41), (1, 8), (1, 1))]
    params = drawn_rows(PRESETS[preset], images)
    assert (params.blur_sigma > 0).any()
    pixels = render_reference(images, params, size)
    for b, image in enumerate(images):
        for v in range(params.num_views):
            # torchvision blurs one pixel with a radius of 0 as well: nothing happens
            assert_within(pixels[b, v], *torchvision_view(image, params, b, v, size, torch.float64))


# --- properties --------------------------------------------------------------------------------------------------------


@st.composite
def crops(draw: st.DrawFn) -> tuple[Tensor, tuple[int, int, int, int], int, RenderSpec]:
    """An image, a box in it, a size to render at, and a spec."""
    image = photo(draw(st.integers(1, 60)), draw(st.integers(1, 60)), draw(st.integers(0, 100)))
    height, width = draw(st.integers(1, image.shape[0])), draw(st.integers(1, image.shape[1]))
    top, left = draw(st.integers(0, image.shape[0] - height)), draw(st.integers(0, image.shape[1] - width))
    return image, (top, left, height, width), draw(st.integers(1, 40)), RenderSpec(interpolation=draw(st.sampled_from(INTERPOLATIONS)))


@settings(max_examples=40, deadline=None)
@given(crops(), st.integers(0, 255), st.floats(0, 3))
def test_constant_images_stay_constant(crop: tuple, level: int, sigma: float) -> None:
    image, box, size, spec = crop
    params = replace(plain_rows([[box]], spec=spec), blur_sigma=torch.full((1, 1), sigma))
    view = render_reference([torch.full_like(image, level)], params, size, normalize=False)[0, 0]
    bound = resize_error(box[2], box[3], size, torch.float64) + blur_error(blur_radius(23, 224, size), torch.float64)
    assert_within(view, torch.full_like(view, level / 255), bound)


@settings(max_examples=40, deadline=None)
@given(crops())
def test_a_flip_mirrors_the_view_and_the_source(crop: tuple) -> None:
    image, box, size, spec = crop
    params = plain_rows([[box]], spec=spec)
    flipped = replace(params, flip=torch.ones(1, 1, dtype=torch.bool))
    view = render_reference([image], params, size)
    assert torch.equal(render_reference([image], flipped, size).flip(-1), view)

    top, left, height, width = box
    mirrored_box = plain_rows([[(top, image.shape[1] - left - width, height, width)]], spec=spec)
    mirrored = render_reference([image.flip(1)], replace(mirrored_box, flip=flipped.flip), size)
    assert_within(mirrored, view, (resize_error(height, width, size, torch.float64) + 4 * U64) / min(spec.std))


@settings(max_examples=40, deadline=None)
@given(crops(), st.integers(0, 2**31))
def test_nothing_outside_the_box_is_read(crop: tuple, seed: int) -> None:
    image, (top, left, height, width), size, spec = crop
    other = torch.randint(256, image.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    inside = slice(top, top + height), slice(left, left + width)
    other[inside] = image[inside]
    params = plain_rows([[(top, left, height, width)]], spec=spec)
    assert torch.equal(render_reference([other], params, size), render_reference([image], params, size))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(PRESETS)), st.integers(0, 2**31), st.integers(1, 24), st.sampled_from(DTYPES))
def test_pixels_lie_between_0_and_1(preset: str, seed: int, size: int, dtype: torch.dtype) -> None:
    images = [photo(19, 27, seed), photo(1, 9, seed)]
    pixels = render_reference(images, drawn_rows(PRESETS[preset], images, seed), size, normalize=False, compute_dtype=dtype)
    # all but the blur clamp or cannot leave the range
    slack = blur_error(size - 1, dtype)
    assert pixels.min() >= -slack and pixels.max() <= 1 + slack


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.sampled_from(INTERPOLATIONS), st.sampled_from(DTYPES))
def test_a_row_that_asks_for_nothing_gives_the_image(size: int, interpolation: str, dtype: torch.dtype) -> None:
    image = photo(size, size)
    params = plain_rows([[(0, 0, size, size)]], spec=RenderSpec(interpolation=interpolation))
    view = render_reference([image], params, size, normalize=False, compute_dtype=dtype)[0, 0]
    expected = image.permute(2, 0, 1).double() / 255
    assert_within(view, expected, resize_error(size, size, size, dtype) + hue_error(dtype))


def test_a_view_depends_on_its_own_image_and_row_only() -> None:
    images = [photo(height, width, seed) for seed, (height, width) in enumerate(SIZES)]
    params = drawn_rows(PRESETS["dino, as run"], images)
    pixels = render_reference(images, params, 16)
    assert torch.equal(render_reference(images[2:4], params.images(slice(2, 4)), 16), pixels[2:4])
    assert torch.equal(render_reference(images, params.views([5, 0]), 16), pixels[:, [5, 0]])
    strided = images[0].repeat_interleave(2, dim=1)[:, ::2]
    assert not strided.is_contiguous()
    assert torch.equal(render_reference([strided], params.images([0]), 16), pixels[:1])


def test_an_empty_batch_gives_no_views() -> None:
    params = drawn_rows(PRESETS["simsiam"], [photo(5, 5)]).images(slice(0, 0))
    assert render_reference([], params, 8).shape == (0, 4, 3, 8, 8)


def test_autocast_does_not_reach_it() -> None:
    images = [photo(20, 30)]
    params = drawn_rows(PRESETS["byol"], images)
    expected = render_reference(images, params, 16, compute_dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        assert torch.equal(render_reference(images, params, 16, compute_dtype=torch.float32), expected)


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: resize(x, 5, "bicubic"),
        lambda x: adjust_brightness(x, 1.2),
        lambda x: adjust_contrast(x, 1.2),
        lambda x: adjust_saturation(x, 1.2),
        lambda x: adjust_hue(x, 0.1),
        gray,
        lambda x: gaussian_blur(x, 1.0, 2),
        lambda x: solarize(x, 0.5),
        lambda x: normalize_pixels(x, IMAGENET_MEAN, IMAGENET_STD),
    ],
)
def test_pixels_are_computed_where_the_images_are(operation: Callable[[Tensor], Tensor]) -> None:
    """Fake tensors stand for those of a CUDA device, present or not, and refuse to meet tensors of the CPU."""
    with FakeTensorMode():
        assert operation(torch.empty(3, 9, 9, device="cuda")).device.type == "cuda"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_pixels_of_the_cpu() -> None:
    images = [photo(height, width, seed) for seed, (height, width) in enumerate(SIZES)]
    params = drawn_rows(VARIANTS["no grey, no hue"](PRESETS["simsiam"]), images)
    expected = render_reference(images, params, 19)
    pixels = render_reference([image.cuda() for image in images], params, 19).cpu()
    for b, image in enumerate(images):
        for v in range(params.num_views):
            # twice the distance that each may have from torchvision
            assert_within(pixels[b, v], expected[b, v], 2 * torchvision_view(image, params, b, v, 19, torch.float64)[1])


# --- what it refuses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "part"),
    [
        ((0, 0, 6, 5), "below"),
        ((0, 0, 5, 7), "beside"),
        ((-1, 0, 2, 2), "above"),
        ((0, -1, 2, 2), "before"),
        ((0, 0, 0, 3), "empty"),
        ((0, 0, 3, 0), "empty"),
        ((2**31 - 1, 0, 2, 2), "past what int32 can add"),
    ],
)
def test_a_box_that_leaves_its_image_is_refused(box: tuple[int, int, int, int], part: str) -> None:
    whole = (0, 0, 5, 6)
    params = plain_rows([[whole, whole], [whole, box]])
    with pytest.raises(HvsError, match=r"view 1 of image 1, which is 5 x 6; sample the rows"):
        render_reference([photo(5, 6), photo(5, 6)], params, 8)


def test_other_bad_requests_are_refused() -> None:
    image, params = photo(5, 6), plain_rows([[(0, 0, 5, 6)]])
    with pytest.raises(HvsError, match="expected rows of 2 images"):
        render_reference([image, image], params, 8)
    with pytest.raises(HvsError, match="size must be at least 1, got 0"):
        render_reference([image], params, 0)
    with pytest.raises(HvsError, match=r"compute_dtype must be one of .*, got torch.float16"):
        render_reference([image], params, 8, compute_dtype=torch.float16)
    with pytest.raises(HvsError, match="got 'nearest'"):
        render_reference([image], replace(params, spec=RenderSpec(interpolation="nearest")), 8)
    with pytest.raises(HvsError, match="expected uint8 of shape"):
        render_reference([image.float()], params, 8)
