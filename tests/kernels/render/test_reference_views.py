"""Whole views of the reference renderer: against torchvision's operations one after the other, and properties that views must have."""

# Axes: B image, V view, C channel, H W pixels, S side.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.transforms.v2 import functional as tv

from fake_cuda import needs_fake_cuda
from hvs_data import recipes
from hvs_data.arguments.sizes import Size, height_width
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
    solarize,
)
from hvs_data.recipes import ColorJitter, Recipe
from hvs_data.types import IMAGENET_MEAN, IMAGENET_STD, ImageBatch, RenderSpec, ViewParams
from render_bounds import (
    U64,
    assert_within,
    blur_error,
    hue_error,
    normalize_error,
    resize_error,
    row_error,
    scaled_radius,
    solarize_error,
)
from render_material import INTERPOLATIONS, PRESETS, SIZES, drawn_rows, photo, plain_rows
from torchvision_gaps import DTYPES, GRAY_GAP, HUE_TORCHVISION, mode

# --- whole recipes -----------------------------------------------------------------------------------------------------


def torchvision_view(image: Tensor, params: ViewParams, b: int, v: int, size: Size, dtype: torch.dtype) -> tuple[Tensor, Tensor | float]:
    """A row's view by torchvision's public functions in float64, and how far a renderer in this dtype may be off."""
    spec = params.spec
    top, left, height, width = params.box[b, v].tolist()
    x = image.permute(2, 0, 1).double() / 255
    x = tv.resized_crop(
        x, top, left, height, width, list(height_width(size)), interpolation=mode(spec.interpolation), antialias=True
    ).clamp(0, 1)
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
    sigma = float(params.blur_sigma[b, v]) * height_width(size)[0] / height_width(params.size[v])[0]
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


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("own", [(16, 40), (40, 16), 24])
def test_views_that_are_not_square_are_torchvisions(own: Size, interpolation: str) -> None:
    """At their own size, at half of it and at another shape: the box is resized to whatever height and width."""
    images = [photo(height, width, seed) for seed, (height, width) in enumerate(SIZES)]
    params = drawn_rows(recipes.simsiam(4, size=own, interpolation=interpolation), images)
    assert params.size == (own,) * 4
    for size in (own, (8, 20), (33, 2)):  # to a width of 1, torch 2.14 resizes contiguous tensors wrongly
        pixels = render_reference(ImageBatch(images), params, size)
        assert pixels.shape == (len(images), 4, 3, *height_width(size))
        for b, image in enumerate(images):
            for v in range(params.num_views):
                assert_within(pixels[b, v], *torchvision_view(image, params, b, v, size, torch.float64))


def test_every_preset_is_rendered() -> None:
    presets = {name for name in recipes.__all__ if getattr(recipes, name).__module__ == recipes.simsiam.__module__}
    assert {preset.partition(",")[0] for preset in PRESETS} == presets - {"evaluation"}  # which draws nothing: see test_resized.py


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


@needs_fake_cuda
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
    with pytest.raises(HvsError, match="expected uint8, uint16 or float32 of shape"):
        render_reference([image.double()], params, 8)
