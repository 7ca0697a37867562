"""The Triton renderer's pixels against the plain PyTorch renderer in float64, on CPU tensors in Triton's interpreter.

The interpreter must be chosen before triton is imported, so these tests run in a process of their own, see the first one. Between
kernels, values are rounded to 16 bits (``KEPT``); all else is as of the Numba renderer, whose bounds these are.
"""

# Axes: B image, V view, S side.

from __future__ import annotations

import io
import itertools
import math
import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from hvs_data.arguments.sizes import Size
from hvs_data.errors import HvsError
from hvs_data.kernels.render.canvas import DTYPES, Canvas
from hvs_data.pipelines.decode import decode_image
from hvs_data.types import RenderSpec, ViewParams
from interpreted import assert_passes
from render_material import INTERPOLATIONS, PRESETS, drawn_rows, photo, plain_rows

triton = pytest.importorskip("triton")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if INTERPRETED:
    from hvs_data.kernels.render.triton import render
    from hvs_data.kernels.render.triton.filling import count_bytes
    from numba_rendering import stored
    from render_bounds import assert_within, unit_roundoff
    from triton_rendering import assert_judged, judged, rendered

interpreted = pytest.mark.skipif(not INTERPRETED, reason="runs in the interpreter's process")

Box = tuple[int, int, int, int]


@pytest.mark.skipif(INTERPRETED, reason="starts this process")
def test_in_the_interpreter() -> None:
    assert_passes(__file__, skipped=1)  # this very test


@pytest.fixture(autouse=True)
def unwritten_memory_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What no kernel has written is NaN, or the largest number of its kind."""
    make = torch.empty

    def filled(*args: Any, **kwargs: Any) -> Tensor:
        tensor = make(*args, **kwargs)
        return tensor.fill_(torch.nan if tensor.is_floating_point() else torch.iinfo(tensor.dtype).max)

    monkeypatch.setattr(torch, "empty", filled)


def photos() -> list[Tensor]:
    return [photo(height, width, seed) for seed, (height, width) in enumerate([(12, 17), (1, 9)])]


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


@interpreted
@pytest.mark.parametrize("preset", PRESETS)
def test_whole_recipes_are_the_references(preset: str) -> None:
    """Of the first two slots and the last two, which are local views where the recipe has any."""
    images = photos()[:1]
    params = drawn_rows(PRESETS[preset], images)
    assert_judged(images, params.views(sorted({0, 1, params.num_views - 2, params.num_views - 1})), 11)


@interpreted
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [1, 2, 8, 33, (9, 33), (33, 2), (1, 5)])
def test_every_size_of_view(size: Size, interpolation: str) -> None:
    """Of one tile and of many, cut off on the right and below, of the resize and of the blur."""
    image = photo(20, 33)
    boxes = [(0, 0, 20, 33)] if size in (33, (9, 33)) else [(0, 0, 20, 33), (19, 29, 1, 3)]
    assert_judged([image], strong_rows(boxes, RenderSpec(interpolation=interpolation), slot_size=128, seed=1), size)


@interpreted
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_strong_downscaling(interpolation: str) -> None:
    boxes = [(0, 0, 60, 40), (3, 30, 57, 4)]
    assert_judged([photo(60, 40)], strong_rows(boxes, RenderSpec(interpolation=interpolation), slot_size=224), 3)


@interpreted
def test_the_bounds_are_sharp() -> None:
    """In levels of 8 bits: where nothing is solarized, a fifth of one at the worst, a twentieth in most views."""
    images = photos()[:1]
    params = drawn_rows(PRESETS["simclr"], images)
    _, bounds = judged(images, replace(params, solarize=torch.zeros_like(params.solarize)), 32, normalize=False)
    levels = 255 * bounds.amax(dim=(2, 3, 4))
    assert levels.max() < 0.2 and levels.median() < 0.05


# --- boxes and sources -------------------------------------------------------------------------------------------------


def border_boxes(height: int, width: int) -> list[Box]:
    """The whole image, boxes at each corner, and single pixels, rows and columns."""
    h, w = max(1, height // 2), max(1, width // 3)
    return [
        (0, 0, height, width), (0, 0, h, w), (0, width - w, h, w), (height - h, 0, h, w), (height - h, width - w, h, w),
        (0, 0, 1, 1), (height - 1, width - 1, 1, 1), (height // 2, 0, 1, width), (0, width - 1, height, 1),
    ]  # fmt: skip


@interpreted
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("height", "width"), [(13, 21), (1, 23), (19, 1), (1, 1), (5, 3)])
def test_boxes_at_every_border(height: int, width: int, interpolation: str) -> None:
    spec = RenderSpec(interpolation=interpolation)
    assert_judged([photo(height, width)], plain_rows([border_boxes(height, width)], spec=spec), 10)
    assert_judged([photo(height, width)], strong_rows(border_boxes(height, width), spec), 3)


@interpreted
def test_every_number_of_taps_from_every_byte_of_a_word() -> None:
    """Of 1 to 14 taps, whose first byte is a word's first to last one, in the middle of an image and at its end."""
    image = photo(3, 25)
    widths = range(1, 22)
    boxes = [(0, left, 2, width) for width in widths for left in range(4)] + [(2, 25 - width, 1, width) for width in widths]
    assert {math.ceil(2 * max(width / 3, 1)) for width in widths} == set(range(2, 15))
    assert_judged([image], plain_rows([boxes]), (2, 3))


@interpreted
def test_greyscale_sources() -> None:
    stream = io.BytesIO()
    Image.fromarray(photo(16, 13).numpy()).convert("L").save(stream, "JPEG", quality=92)
    image = torch.from_numpy(decode_image(stream.getvalue()))
    assert_judged([image], drawn_rows(PRESETS["simsiam"], [image]), 9)


@interpreted
@pytest.mark.parametrize("seed", range(8))
def test_nothing_outside_the_box_is_read(seed: int) -> None:
    draw = np.random.default_rng(seed)
    height, width = draw.integers(1, 20, 2).tolist()
    h, w = int(draw.integers(1, height + 1)), int(draw.integers(1, width + 1))
    top, left = int(draw.integers(0, height - h + 1)), int(draw.integers(0, width - w + 1))
    image, size = photo(height, width), int(draw.integers(1, 12))
    other = torch.where(image < 128, 255, 0).to(torch.uint8)
    inside = slice(top, top + h), slice(left, left + w)
    other[inside] = image[inside]
    params = plain_rows([[(top, left, h, w)]], spec=RenderSpec(interpolation=INTERPOLATIONS[seed % 2]))
    assert torch.equal(rendered([other], params, size), rendered([image], params, size))


# --- operations --------------------------------------------------------------------------------------------------------


@interpreted
def test_every_order_of_the_colour_operations() -> None:
    orders = torch.tensor(list(itertools.permutations(range(4))), dtype=torch.uint8)[None]
    params = replace(strong_rows([(2, 3, 6, 5)] * 24, RenderSpec()), order=orders, blur_sigma=torch.zeros(1, 24))
    assert_judged([photo(10, 12)], params, 7)


@interpreted
def test_every_combination_of_operations() -> None:
    choices = torch.tensor(list(itertools.product([False, True], repeat=6)))
    params = strong_rows([(2, 3, 4, 5)] * len(choices), RenderSpec(), seed=1)
    gray, blur, solarize, *jitter = choices.T[:, None]
    neutral = {
        name: torch.where(chosen, getattr(params, name), 0.0 if name == "hue" else 1.0)
        for name, chosen in zip(("contrast", "saturation", "hue"), jitter, strict=True)
    }
    params = replace(params, gray=gray, solarize=solarize, blur_sigma=torch.where(blur, params.blur_sigma + 0.1, 0.0), **neutral)
    assert_judged([photo(10, 12)], params, 5)


@interpreted
@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("brightness", [0.0, 1e-3, 3.0, 50.0]),
        ("contrast", [0.0, 1e-3, 2.0, 20.0]),
        ("saturation", [0.0, 1e-3, 2.0, 20.0]),
        ("hue", [-0.5, 1.0, -1.0, 0.5, -1e-9, 1e-9, 3.3, -2.7]),
    ],
)
def test_extreme_factors(name: str, factors: list[float]) -> None:
    params = plain_rows([[(0, 0, 9, 8)] * len(factors)])
    assert_judged([photo(9, 8)], replace(params, **{name: torch.tensor([factors])}), 11)


@interpreted
@pytest.mark.parametrize("size", [1, 2, 3, 14])
def test_every_width_of_blur(size: int) -> None:
    sigmas = [2.0**-149, 0.26, 5.0, 3e38]
    for kernel, slot_size in [(23, 224), (101, 96)] if size < 8 else [(23, 32)]:
        params = plain_rows([[(0, 0, 9, 8)] * len(sigmas)], slot_size, RenderSpec(blur_kernel=kernel))
        assert_judged([photo(9, 8)], replace(params, blur_sigma=torch.tensor([sigmas])), size)


@interpreted
def test_a_flip_mirrors_exactly() -> None:
    for interpolation, size in [("bilinear", 1), ("bicubic", 9), ("bilinear", 34)]:
        params = plain_rows([border_boxes(10, 13)[1:2]], spec=RenderSpec(interpolation=interpolation))
        flipped = replace(params, flip=torch.ones_like(params.flip))
        assert torch.equal(rendered([photo(10, 13)], flipped, size).flip(-1), rendered([photo(10, 13)], params, size))


# --- what is written ---------------------------------------------------------------------------------------------------


@interpreted
@pytest.mark.parametrize(("channels_last", "image_major"), [(True, False), (False, True)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_form_of_output(dtype: torch.dtype, channels_last: bool, image_major: bool) -> None:
    images = photos()
    params = drawn_rows(PRESETS["byol"], images).views([0, 3])
    for normalize in (False, True) if dtype.is_floating_point else (False,):
        pixels = rendered(images, params, 9, dtype, normalize=normalize, channels_last=channels_last, image_major=image_major)
        assert pixels.dtype == dtype and pixels.shape == (2, 2, 3, 9, 9)
        expected, bound = stored(*judged(images, params, 9, normalize=normalize), dtype)
        if dtype == torch.bfloat16:
            # the interpreter cuts off what a GPU rounds
            bound = bound + unit_roundoff(dtype) * (expected.abs() + bound)
        assert_within(pixels, expected, bound)
    # the memory's order changes no pixel
    assert torch.equal(pixels, rendered(images, params, 9, dtype))


@interpreted
def test_levels_of_8_bits_survive_and_solarize_as_such() -> None:
    """Also through the memory between kernels, since 65535 is a multiple of 255: a contrast that changes next to nothing leads there."""
    levels = torch.arange(256, dtype=torch.uint8).view(16, 16, 1).expand(16, 16, 3).contiguous()
    params = plain_rows([[(0, 0, 16, 16)] * 4])
    contrast = torch.tensor([[1.0, 1.0, 1.0 + 2**-23, 1.0 + 2**-23]])
    params = replace(params, solarize=torch.tensor([[False, True, False, True]]), contrast=contrast)
    views = rendered([levels], params, 16, torch.uint8)[0].permute(0, 2, 3, 1)
    assert torch.equal(views[0], levels) and torch.equal(views[2], levels)
    assert torch.equal(views[1], torch.where(levels >= 128, 255 - levels, levels))


@interpreted
def test_another_normalisation() -> None:
    spec = RenderSpec(mean=(0.1, 0.5, 0.9), std=(0.01, 1.0, 3.0), solarize_threshold=0.3)
    assert_judged([photo(10, 10)], strong_rows([(1, 2, 6, 7)] * 6, spec), 10)


@interpreted
def test_a_group_of_images_goes_to_its_place_in_the_canvas() -> None:
    images = photos()
    params = drawn_rows(PRESETS["simsiam"], images).views([0, 1])
    canvas = Canvas.empty(2, 6, 9, torch.float32)
    canvas.pixels.fill_(torch.nan)
    render.render_views(images, params, canvas, normalize=True, first_image=3)
    assert torch.equal(canvas.pixels.transpose(0, 1)[3:5], rendered(images, params, 9))
    assert canvas.pixels[:, [0, 1, 2, 5]].isnan().all()


@interpreted
def test_large_batches_are_rendered_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [*photos(), photo(3, 3)]
    params = drawn_rows(PRESETS["simsiam"], images).views([1, 2])
    expected = rendered(images, params, 9)
    parts: list[int] = []
    part = render._render_part
    monkeypatch.setattr(render, "_render_part", lambda images, *rest: (parts.append(len(images)), part(images, *rest)))
    two = int(count_bytes(params.box.numpy()[:2], params.blur_sigma.numpy(), np.array([9, 9]), False, render.TILE_Y, render.TILE_X).sum())
    for limit, counts in [(1, [1, 1, 1]), (two - 1, [1, 2]), (two, [2, 1])]:
        monkeypatch.setattr(render, "SCRATCH_BYTES", limit)
        assert torch.equal(rendered(images, params, 9), expected)
        assert parts == counts
        parts.clear()


@interpreted
def test_no_images_and_no_views_need_no_launch() -> None:
    params = drawn_rows(PRESETS["simsiam"], photos())
    render.render_views([], params.images(slice(0, 0)), Canvas.empty(4, 0, 8, torch.float32), normalize=True)
    render.render_views(photos(), params.views([]), Canvas.empty(0, len(photos()), 8, torch.float32), normalize=True)


@interpreted
def test_a_canvas_of_more_elements_than_int32_counts() -> None:
    """Only the pages that are written to take memory."""
    size, images = 224, 14400
    try:
        canvas = Canvas.on(torch.zeros(images * 3 * size * size, dtype=torch.uint8), 1, images, size)
    except RuntimeError as error:
        pytest.skip(f"the machine does not promise so much memory: {error}")
    rows = replace(plain_rows([[(0, 0, 2, 2)]]), brightness=torch.full((1, 1), 0.5))
    image = torch.full((2, 2, 3), 200, dtype=torch.uint8)
    render.render_views([image], rows, canvas, normalize=False, first_image=images - 1)
    assert (canvas.pixels[0, -1] == 100).all() and (canvas.pixels[0, -2] == 0).all() and (canvas.pixels[0, 0] == 0).all()


# --- what it refuses ---------------------------------------------------------------------------------------------------


@interpreted
@pytest.mark.parametrize("box", [(0, 0, 6, 5), (0, 0, 5, 7), (-1, 0, 2, 2), (0, 0, 0, 3), (2**31 - 1, 0, 2, 2)])
def test_a_box_that_leaves_its_image_is_refused(box: Box) -> None:
    canvas = Canvas.empty(2, 1, 8, torch.float32)
    with pytest.raises(HvsError, match=r"must hold pixels of their image only, got \(.*\) for view 1 of image 0, which is 5 x 6; sample"):
        render.render_views([photo(5, 6)], plain_rows([[(0, 0, 5, 6), box]]), canvas, normalize=True)
    assert canvas.pixels.isnan().all()


@interpreted
def test_rows_that_do_not_fit_the_canvas_are_refused() -> None:
    rows, images = plain_rows([[(0, 0, 1, 1)] * 2] * 2), [photo(5, 6)] * 2
    canvas = Canvas.empty(2, 3, 8, torch.uint8)
    for first_image in (-1, 2):
        with pytest.raises(HvsError, match=f"expected rows of 2 views of images within 0 to 3.* of images {first_image} to"):
            render.render_views(images, rows, canvas, normalize=False, first_image=first_image)
    with pytest.raises(HvsError, match="normalised views do not fit into uint8"):
        render.render_views(images, rows, canvas, normalize=True)
    with pytest.raises(HvsError, match="expected rows of 1 images"):
        render.render_views(images[:1], rows, canvas, normalize=False)
