"""The Numba renderer's pixels against the plain PyTorch renderer in float64.

Its arithmetic is float32, in which the bounds are derived, and its blur leaves out taps beyond four standard deviations
(see ``BLUR_CUTOFF``). Every rendering here goes into memory that is checked for pixels left out and for writes beside it.
"""

# Axes: B image, V view, S side.

from __future__ import annotations

import io
import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from hvs_data.arguments.sizes import Size, height_width
from hvs_data.errors import HvsError
from hvs_data.kernels.render.canvas import DTYPES, Canvas
from hvs_data.kernels.render.numba.render import Job, render_one
from hvs_data.pipelines.decode import decode_image
from hvs_data.types import RenderSpec, ViewParams
from numba_rendering import assert_judged, judged, rendered, stored
from render_bounds import assert_within
from render_material import INTERPOLATIONS, PRESETS, SIZES, drawn_rows, photo, plain_rows

Box = tuple[int, int, int, int]


@cache
def large_photo() -> Tensor:
    return photo(2000, 1300)


def small_photos() -> list[Tensor]:
    return [photo(height, width, seed) for seed, (height, width) in enumerate(SIZES)]


def strong_rows(boxes_V4: list[Box], spec: RenderSpec, slot_size: int = 32, seed: int = 0) -> ViewParams:
    """Rows [1, V] in which everything happens, with factors up to the strongest of any preset."""
    params = plain_rows([boxes_V4], slot_size, spec)
    draw = np.random.default_rng(seed)
    shape = params.flip.shape

    def uniform(low: float, high: float) -> Tensor:
        return torch.from_numpy(draw.uniform(low, high, shape)).float()

    orders = torch.from_numpy(np.stack([draw.permutation(4) for _ in boxes_V4])[None].astype(np.uint8))
    flip, gray, solarize = (uniform(0, 1) < share for share in (0.5, 0.2, 0.3))
    return replace(
        params, flip=flip, gray=gray, solarize=solarize, order=orders, hue=uniform(-0.5, 0.5), blur_sigma=uniform(0, 2),
        brightness=uniform(0.2, 1.8), contrast=uniform(0.2, 1.8), saturation=uniform(0.2, 1.8),
    )  # fmt: skip


# --- whole recipes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_whole_recipes_are_the_references(preset: str) -> None:
    images = small_photos()
    params = drawn_rows(PRESETS[preset], images)
    for size in (32, 19):
        assert_judged(images, params, size)


@pytest.mark.parametrize("size", [16, 224])
def test_the_bounds_are_sharp(size: int) -> None:
    """In levels of 8 bits: where nothing is solarized, a fifth of one at the worst, a twentieth in most views."""
    images = small_photos()[:2]
    params = drawn_rows(PRESETS["simclr"], images)
    _, bounds = judged(images, replace(params, solarize=torch.zeros_like(params.solarize)), size, normalize=False)
    levels = 255 * bounds.amax(dim=(2, 3, 4))
    assert levels.max() < 0.2 and levels.median() < 0.05


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 31, 64, 96, 112, 224, (7, 96), (96, 31), (1, 9), (64, 8)])
def test_every_size_of_view(size: Size, interpolation: str) -> None:
    spec = RenderSpec(interpolation=interpolation)
    for seed, image in enumerate([photo(150, 90), photo(7, 5)]):
        height, width = image.shape[:2]
        boxes = [(0, 0, height, width), (height // 3, width // 4, height // 2, width // 2), (height - 1, width - 3, 1, 3)]
        assert_judged([image], strong_rows(boxes, spec, seed=seed), size)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [1, 7, 96, 224])
def test_strong_downscaling(size: int, interpolation: str) -> None:
    boxes = [(0, 0, 2000, 1300), (3, 900, 1997, 211)]
    assert_judged([large_photo()], strong_rows(boxes, RenderSpec(interpolation=interpolation), slot_size=224), size)


# --- boxes and sources -------------------------------------------------------------------------------------------------


def border_boxes(height: int, width: int) -> list[Box]:
    """The whole image, boxes at each border and corner, and single pixels, rows and columns."""
    h, w = max(1, height // 2), max(1, width // 3)
    below, beside = height - h, width - w
    return [
        (0, 0, height, width), (0, 0, h, w), (0, beside, h, w), (below, 0, h, w), (below, beside, h, w),
        (0, beside // 2, h, w), (below, beside // 2, h, w), (below // 2, 0, h, w), (below // 2, beside, h, w),
        (0, 0, 1, 1), (height - 1, width - 1, 1, 1), (height // 2, 0, 1, width), (0, width // 2, height, 1), (height - 1, 0, 1, width),
        (0, width - 1, height, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("height", "width"), [(41, 67), (1, 83), (59, 1), (1, 1), (2, 2), (5, 3)])
def test_boxes_at_every_border(height: int, width: int, interpolation: str) -> None:
    spec = RenderSpec(interpolation=interpolation)
    for size in (1, 10, 33):
        assert_judged([photo(height, width)], plain_rows([border_boxes(height, width)], spec=spec), size)
    assert_judged([photo(height, width)], strong_rows(border_boxes(height, width), spec), 12)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_decoded_sources(mode: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(photo(60, 45).numpy()).convert(mode).save(stream, "JPEG", quality=92)
    image = torch.from_numpy(decode_image(stream.getvalue()))
    assert image.shape == (60, 45, 3)
    if mode == "L":
        assert torch.equal(image[..., 0], image[..., 1]) and torch.equal(image[..., 0], image[..., 2])
    params = drawn_rows(PRESETS["simsiam"], [image] * 3)
    assert_judged([image] * 3, params, 32)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_nothing_outside_the_box_is_read(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    h, w = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    top, left = data.draw(st.integers(0, height - h)), data.draw(st.integers(0, width - w))
    spec = RenderSpec(interpolation=data.draw(st.sampled_from(INTERPOLATIONS)))
    image, size = photo(height, width), data.draw(st.integers(1, 30))
    other = torch.where(image < 128, 255, 0).to(torch.uint8)
    inside = slice(top, top + h), slice(left, left + w)
    other[inside] = image[inside]
    params = plain_rows([[(top, left, h, w)]], spec=spec)
    assert torch.equal(rendered([other], params, size), rendered([image], params, size))


# --- operations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [5, 18])
def test_every_order_of_the_colour_operations(size: int) -> None:
    image, orders = photo(40, 30), torch.tensor(list(itertools.permutations(range(4))), dtype=torch.uint8)[None]
    for seed in range(3):
        params = replace(strong_rows([(2, 3, 31, 25)] * 24, RenderSpec(), seed=seed), order=orders)
        assert_judged([image], params, size)


@pytest.mark.parametrize("size", [1, 4, 18])
def test_every_combination_of_operations(size: int) -> None:
    choices = torch.tensor(list(itertools.product([False, True], repeat=8)))
    params = strong_rows([(2, 3, 31, 25)] * len(choices), RenderSpec(), seed=1)
    flip, gray, blur, solarize, *jitter = choices.T[:, None]
    one = torch.ones(())
    neutral = {
        name: torch.where(chosen, getattr(params, name), 0 if name == "hue" else one)
        for name, chosen in zip(("brightness", "contrast", "saturation", "hue"), jitter, strict=True)
    }
    params = replace(
        params, flip=flip, gray=gray, solarize=solarize, blur_sigma=torch.where(blur, params.blur_sigma + 0.1, torch.zeros(())), **neutral
    )
    assert_judged([photo(40, 30)], params, size)


def test_extreme_factors() -> None:
    values = {
        "brightness": [0.0, 1e-3, 3.0, 50.0],
        "contrast": [0.0, 1e-3, 2.0, 20.0],
        "saturation": [0.0, 1e-3, 2.0, 20.0],
        "hue": [-0.5, 1.0, -1.0, 0.5, -1e-9, 1e-9, 3.3, -2.7],
    }
    for name, factors in values.items():
        params = plain_rows([[(0, 0, 23, 31)] * len(factors)])
        assert_judged([photo(23, 31)], replace(params, **{name: torch.tensor([factors])}), 23)


@pytest.mark.parametrize("size", [1, 2, 3, 12, 31, 64])
def test_every_width_of_blur(size: int) -> None:
    sigmas = [2.0**-149, 1e-30, 0.01, 0.1, 0.26, 0.5, 1.0, 2.0, 5.0, 30.0, 1e6, 1e19, 3e38]
    for kernel, slot_size in [(23, 224), (9, 32), (3, 64), (101, 96)]:
        params = plain_rows([[(0, 0, 50, 40)] * len(sigmas)], slot_size, RenderSpec(blur_kernel=kernel))
        assert_judged([photo(50, 40)], replace(params, blur_sigma=torch.tensor([sigmas])), size)


def test_the_radius_of_a_blur_is_rounded_as_the_reference_rounds_it() -> None:
    """Radius * size / slot size is a half and a whole number here; with a rounded quotient of the sizes it would fall short."""
    image = photo(40, 40)
    for kernel, slot_size, size in [(23, 22, 15), (23, 66, 45), (23, 44, 98), (31, 20, 82), (15, 14, 61)]:
        radius = kernel // 2
        assert radius * size % slot_size == slot_size / 2 and radius * (size / slot_size) + 0.5 < radius * size // slot_size + 1
        params = replace(plain_rows([[(0, 0, 40, 40)]], slot_size, RenderSpec(blur_kernel=kernel)), blur_sigma=torch.full((1, 1), 1e3))
        assert_judged([image], params, size)


def test_a_flip_mirrors_exactly() -> None:
    for interpolation, size in itertools.product(INTERPOLATIONS, [1, 9, 40]):
        params = plain_rows([border_boxes(29, 37)], spec=RenderSpec(interpolation=interpolation))
        flipped = replace(params, flip=torch.ones_like(params.flip))
        assert torch.equal(rendered([photo(29, 37)], flipped, size).flip(-1), rendered([photo(29, 37)], params, size))


# --- what is written ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image_major", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_form_of_output(dtype: torch.dtype, channels_last: bool, image_major: bool) -> None:
    images = small_photos()[:3]
    params = drawn_rows(PRESETS["byol"], images)
    for normalize in (False, True) if dtype.is_floating_point else (False,):
        for size in (1, 21, (9, 24)):
            pixels = rendered(images, params, size, dtype, normalize=normalize, channels_last=channels_last, image_major=image_major)
            assert pixels.dtype == dtype and pixels.shape == (3, 4, 3, *height_width(size))
            assert_within(pixels, *stored(*judged(images, params, size, normalize=normalize), dtype))
            # the memory's order changes no pixel
            assert torch.equal(pixels, rendered(images, params, size, dtype, normalize=normalize))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_rounded_float32(dtype: torch.dtype) -> None:
    images = small_photos()
    params = drawn_rows(PRESETS["simsiam"], images)
    for normalize in (False, True):
        expected = rendered(images, params, 24, normalize=normalize).to(dtype)
        assert torch.equal(rendered(images, params, 24, dtype, normalize=normalize), expected)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_levels_of_8_bits_survive_and_solarize_as_such(interpolation: str) -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(16, 16, 1).expand(16, 16, 3).contiguous()
    params = plain_rows([[(0, 0, 16, 16)] * 2], spec=RenderSpec(interpolation=interpolation))
    params = replace(params, solarize=torch.tensor([[False, True]]))
    plain, solarized = rendered([levels], params, 16, torch.uint8)[0].permute(0, 2, 3, 1)
    assert torch.equal(plain, levels)
    assert torch.equal(solarized, torch.where(levels >= 128, 255 - levels, levels))


def test_another_normalisation() -> None:
    spec = RenderSpec(mean=(0.1, 0.5, 0.9), std=(0.01, 1.0, 3.0), solarize_threshold=0.3)
    assert_judged([photo(30, 30)], strong_rows([(1, 2, 20, 25)] * 8, spec), 20)


def test_a_group_of_images_goes_to_its_place_in_the_canvas() -> None:
    images = small_photos()
    params = drawn_rows(PRESETS["simsiam"], images)
    canvas = Canvas.empty(4, 6, 9, torch.float32)
    canvas.pixels.fill_(float("nan"))
    job = Job.make(params.images(slice(2, 5)), canvas, normalize=True, first_image=2)
    for position in range(3):
        render_one(images[2 + position], position, job)
    assert torch.equal(canvas.pixels.transpose(0, 1)[2:5], rendered(images, params, 9)[2:5])
    assert canvas.pixels[:, [0, 1, 5]].isnan().all()


@pytest.mark.parametrize(("views", "images"), [(1, 14400), (3, 7200)])
def test_a_canvas_of_more_elements_than_int32_counts(views: int, images: int) -> None:
    """Only the pages that are written to take memory."""
    size = 224
    try:
        canvas = Canvas.empty(views, images, size, torch.uint8)
    except RuntimeError as error:
        pytest.skip(f"the machine does not promise so much memory: {error}")
    # the last image's place in the one view; the last view's place
    assert max(canvas.pixels.stride(1) * (images - 1), canvas.pixels.stride(0) * (views - 1)) > 2**31
    params = drawn_rows(PRESETS["simsiam"], [photo(30, 40)]).views(range(views))
    render_one(photo(30, 40), 0, Job.make(params, canvas, normalize=False, first_image=images - 1))
    assert torch.equal(canvas.pixels[:, -1], rendered([photo(30, 40)], params, size, torch.uint8)[0])


# --- property ----------------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_row_is_the_references(data: st.DataObject) -> None:
    whole, real = (lambda low, high: data.draw(st.integers(low, high))), (lambda low, high: data.draw(st.floats(low, high, width=32)))
    image = photo(whole(1, 70), whole(1, 70), whole(0, 5))
    boxes = []
    for _ in range(2):
        height, width = whole(1, image.shape[0]), whole(1, image.shape[1])
        boxes.append((whole(0, image.shape[0] - height), whole(0, image.shape[1] - width), height, width))
    slot_size, size = whole(1, 64), whole(1, 48)
    spec = RenderSpec(
        interpolation=data.draw(st.sampled_from(INTERPOLATIONS)), blur_kernel=2 * whole(0, 15) + 1, solarize_threshold=real(0, 1)
    )
    fields = {name: [[data.draw(st.booleans()) for _ in boxes]] for name in ("flip", "gray", "solarize")}
    fields |= {name: [[real(0, 2) for _ in boxes]] for name in ("brightness", "contrast", "saturation")}
    fields |= {"hue": [[real(-0.5, 0.5) for _ in boxes]], "blur_sigma": [[real(0, 4) for _ in boxes]]}
    orders = torch.tensor([[data.draw(st.permutations(range(4))) for _ in boxes]], dtype=torch.uint8)
    params = replace(plain_rows([boxes], slot_size, spec), order=orders, **{name: torch.tensor(value) for name, value in fields.items()})
    assert_judged([image], params, size)


# --- what it refuses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "box",
    [(0, 0, 6, 5), (0, 0, 5, 7), (-1, 0, 2, 2), (0, -1, 2, 2), (0, 0, 0, 3), (0, 0, 3, 0), (2**31 - 1, 0, 2, 2), (0, 2**31 - 1, 2, 2)],
)
def test_a_box_that_leaves_its_image_is_refused(box: Box) -> None:
    canvas = Canvas.empty(3, 1, 8, torch.float32)
    canvas.pixels.fill_(float("nan"))
    job = Job.make(plain_rows([[(0, 0, 5, 6), box, (0, 0, 5, 6)]]), canvas, normalize=True)
    with pytest.raises(HvsError, match=r"must hold pixels of their image only, got \(.*\) for view 1 of an image of 5 x 6; sample"):
        render_one(photo(5, 6), 0, job)
    assert canvas.pixels[1:].isnan().all()


def test_rows_that_do_not_fit_the_canvas_are_refused() -> None:
    canvas = Canvas.empty(2, 3, 8, torch.uint8)
    rows = plain_rows([[(0, 0, 1, 1)] * 2] * 2)
    for first_image in (0, 1):
        Job.make(rows, canvas, normalize=False, first_image=first_image)
    for first_image in (-1, 2):
        with pytest.raises(HvsError, match=f"expected rows of 2 views of images within 0 to 3.* of images {first_image} to"):
            Job.make(rows, canvas, normalize=False, first_image=first_image)
    with pytest.raises(HvsError, match="got rows of 1 views"):
        Job.make(rows.views([0]), canvas, normalize=False)
    with pytest.raises(HvsError, match="normalised views do not fit into uint8"):
        Job.make(rows, canvas, normalize=True)
    with pytest.raises(HvsError, match="interpolation must be one of .*, got 'nearest'"):
        Job.make(replace(rows, spec=RenderSpec(interpolation="nearest")), canvas, normalize=False)
