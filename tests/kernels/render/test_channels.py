"""Images of any channels and depth: the reference against torchvision's resize and blur and written-out colours, Numba against it."""

# Axes: B image, V view, C channel, H W pixels.

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from hvs_data import recipes
from hvs_data.errors import HvsError
from hvs_data.kernels.render.canvas import DTYPES
from hvs_data.kernels.render.reference import render_reference
from hvs_data.recipes import Recipe
from hvs_data.types import ImageBatch, ViewParams
from numba_rendering import assert_judged, judged, rendered, stored
from render_bounds import ABSOLUTE_SUM, U32, assert_within, normalize_error, row_error, scaled_radius
from render_material import drawn_rows, photo
from torchvision_gaps import mode

SIZES = ((37, 53), (1, 29), (1, 1))
# type, value range, and what the images' values lie within: some beyond the range, which are clipped
DEPTHS: dict[str, tuple[str, Any, float, float]] = {
    "8 bits": ("uint8", None, 0, 255),
    "8 bits, ranged": ("uint8", (16, 235), 0, 255),
    "12 bits": ("uint16", (0, 4095), 0, 4500),
    "16 bits": ("uint16", None, 0, 65535),
    "reflectance": ("float32", (-0.1, 1.3), -0.3, 1.5),
    "unit floats": ("float32", None, 0, 1),
}


def recipe_of(channels: int, value_range: Any, interpolation: str = "bilinear", size: Any = (16, 24)) -> Recipe:
    mean, std = np.linspace(0.3, 0.6, channels).tolist(), np.linspace(0.2, 0.4, channels).tolist()
    return recipes.byol(4, size=size, interpolation=interpolation).with_channels(mean, std, value_range)


def images_of(channels: int, depth: str, sizes: Any = SIZES) -> list[Tensor]:
    """Photos' shades, other ones in every channel, over the depth's numbers."""
    dtype, _, lo, hi = DEPTHS[depth]
    images = []
    for seed, (height, width) in enumerate(sizes):
        planes = [photo(height, width, seed + 7 * number).numpy() for number in range(-(-channels // 3))]
        values = lo + (hi - lo) * np.concatenate(planes, axis=2)[..., :channels].astype(float) / 255
        images.append(torch.from_numpy(values.round().astype(dtype) if dtype != "float32" else values.astype(dtype)))
    return images


def levels_gap(recipe: Recipe, dtype: torch.dtype) -> float:
    """What the step to the 0-1 scale in float32 adds: low value, factor, difference and product rounded, of numbers so much larger."""
    return max(4 * U32 * (1 + abs(lo) / (hi - lo)) for lo, hi in recipe.spec.ranges(dtype)) * ABSOLUTE_SUM**2


def written_out(image: Tensor, params: ViewParams, b: int, v: int, size: tuple[int, int]) -> Tensor:
    """A view without solarize and normalisation, in float64."""
    spec = params.spec
    low, high = (torch.tensor(ends, dtype=torch.float64)[:, None, None] for ends in zip(*spec.ranges(image.dtype), strict=True))
    x = ((image.permute(2, 0, 1).double() - low) / (high - low)).clamp(0, 1)
    x = tv.resized_crop(x, *params.box[b, v].tolist(), list(size), interpolation=mode(spec.interpolation), antialias=True).clamp(0, 1)
    x = x.flip(-1) if params.flip[b, v] else x
    for operation in params.order[b, v].tolist():
        brightness, contrast = float(params.brightness[b, v]), float(params.contrast[b, v])
        x = (x * brightness).clamp(0, 1) if operation == 0 else x
        x = (contrast * x + (1 - contrast) * x.mean()).clamp(0, 1) if operation == 1 else x
    if params.blur_sigma[b, v] > 0:
        sigma = float(params.blur_sigma[b, v]) * size[0] / params.heights[v]
        x = tv.gaussian_blur(x, [2 * scaled_radius(params, v, size) + 1] * 2, [sigma, sigma])
    return x


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_the_reference_is_what_is_written_out(channels: int, depth: str) -> None:
    images = images_of(channels, depth)
    recipe = recipe_of(channels, DEPTHS[depth][1])
    params = drawn_rows(recipe, images)
    params = replace(params, solarize=torch.zeros_like(params.solarize))
    for normalize in (False, True):
        views = render_reference(images, params, (16, 24), normalize=normalize)
        for b, image in enumerate(images):
            for v in range(params.num_views):
                expected = written_out(image, params, b, v, (16, 24))
                error: Any = row_error(params, b, v, (16, 24), torch.float64) + levels_gap(recipe, image.dtype) * 2**-29
                if normalize:
                    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (recipe.mean, recipe.std))
                    expected, error = (expected - mean) / std, normalize_error(error, recipe.std, torch.float64)
                assert_within(views[b, v], expected, error)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_numba_is_the_reference_for_every_number_of_channels(depth: str, interpolation: str) -> None:
    for channels in (1, 2, 3, 4, 13, 16):
        images = images_of(channels, depth, SIZES[: 3 if channels in (1, 3) else 1])
        recipe = recipe_of(channels, DEPTHS[depth][1], interpolation)
        for size in (8, 16), (1, 9), 17:
            assert_judged(images, drawn_rows(recipe, images), size, resize_gap=levels_gap(recipe, images[0].dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_form_of_output(dtype: torch.dtype) -> None:
    for channels in (1, 4, 13):
        images = images_of(channels, "12 bits", SIZES[:2])
        recipe = recipe_of(channels, (0, 4095)).with_roles(turn=0.5, quarters=(2,), vertical_flip=0.5)
        params, gap = drawn_rows(recipe, images), levels_gap(recipe, torch.uint16)
        for normalize in (False, True) if dtype.is_floating_point else (False,):
            planar = rendered(images, params, (9, 24), dtype, normalize=normalize)
            for channels_last, image_major in ((True, False), (False, True), (True, True)):
                how = {"channels_last": channels_last, "image_major": image_major}
                assert torch.equal(planar, rendered(images, params, (9, 24), dtype, normalize=normalize, **how))
            unturned = replace(params, turn=None, vertical_flip=None)
            pixels = rendered(images, unturned, (9, 24), dtype, normalize=normalize)
            assert_within(pixels, *stored(*judged(images, unturned, (9, 24), normalize=normalize, resize_gap=gap), dtype))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 4095), st.integers(1, 16), st.sampled_from(["uint16", "float32"]))
def test_every_one_of_4096_levels_is_kept(level: int, channels: int, dtype: str) -> None:
    """One step of 12 bits is told from the next, at the value that it is, in float32 and without a stop at 8 bits."""
    recipe = recipe_of(channels, (0, 4095), size=8)
    params = drawn_rows(recipe, [torch.zeros(8, 8, channels)])
    plain = replace(params, brightness=torch.ones(1, 4), contrast=torch.ones(1, 4), solarize=torch.zeros(1, 4, dtype=torch.bool))
    image = torch.full((8, 8, channels), level).to(getattr(torch, dtype))
    pixels = rendered([image], replace(plain, blur_sigma=torch.zeros(1, 4)), 8, normalize=False)
    # rounding of the factor and of a product, and weights whose rounded sums differ from one: of eight taps an axis
    assert (pixels.double() - level / 4095).abs().max() <= 20 * U32


def test_an_rgb_image_of_bytes_is_the_same_in_float() -> None:
    """Of the same picture in another type, the same views to rounding: grey, hue and all."""
    images = [photo(height, width, seed) for seed, (height, width) in enumerate(SIZES)]
    recipe = recipes.simsiam(4, size=24)
    params = drawn_rows(recipe, images)
    for dtype, value_range in ((torch.uint8, (0, 255)), (torch.uint16, (0, 255)), (torch.float32, ((0, 255),) * 3)):
        ranged = replace(params, spec=replace(recipe, value_range=value_range).spec)
        assert_within(
            rendered([image.to(dtype) for image in images], ranged, 24),
            *judged(images, params, 24, resize_gap=levels_gap(replace(recipe, value_range=value_range), dtype)),
        )


def test_images_of_other_channels_than_the_rows_are_refused() -> None:
    images = images_of(4, "8 bits")
    params = drawn_rows(recipe_of(13, None), images)
    for render in (render_reference, rendered):
        with pytest.raises(HvsError, match="of 13 channels, as .* got"):
            render(images, params, 8)
    coloured = drawn_rows(recipe_of(4, None), images)
    coloured.gray[1, 2] = True
    with pytest.raises(HvsError, match="without saturation, hue and grey for images of 4 channels"):
        render_reference(images, coloured, 8)


def test_a_batch_holds_images_of_one_kind() -> None:
    one, other = torch.zeros(2, 3, 4), torch.zeros(2, 3, 5)
    assert ImageBatch([one.numpy(), one]).channels == 4 and ImageBatch([]).channels is None
    for images in ([one, other], [one, one.to(torch.uint16)]):
        with pytest.raises(HvsError, match="of one type and number of channels"):
            ImageBatch(images)
    for wrong in (torch.zeros(2, 2, 17), one.double(), one.to(torch.int16), torch.zeros(2, 2), torch.zeros(0, 2, 1)):
        with pytest.raises(HvsError, match="expected uint8, uint16 or float32"):
            ImageBatch([wrong])
