"""The Triton renderer on a CUDA device: parity with the reference, the same bits every time, and nothing that waits."""

# Axes: B image, V view, S side.

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import hvs_data as hvs
from hvs_data.arguments.sizes import Size
from hvs_data.kernels.render.canvas import DTYPES, Canvas, count_elements
from hvs_data.types import RenderSpec, ViewParams
from numba_rendering import stored
from render_bounds import assert_within
from render_material import INTERPOLATIONS, PRESETS, SIZES, drawn_rows, photo, plain_rows

pytest.importorskip("triton")

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def rendered(images: list[Tensor], params: ViewParams, size: Size, dtype: torch.dtype = torch.float32, **options: bool) -> Tensor:
    """Pixels [B, V, 3, H, W] on the CPU, rendered into memory full of NaN on the device, while waiting for it is forbidden."""
    from hvs_data.kernels.render.triton.render import render_views

    on_device = [image.cuda() for image in images]
    fill = torch.nan if dtype.is_floating_point else 0
    flat = torch.full((count_elements(params.num_views, len(images), size),), fill, dtype=dtype, device="cuda")
    normalize = options.pop("normalize", dtype.is_floating_point)
    canvas = Canvas.on(flat, params.num_views, len(images), size, **options)
    torch.cuda.set_sync_debug_mode("error")
    try:
        render_views(on_device, params, canvas, normalize=normalize)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return canvas.pixels.transpose(0, 1).cpu()


def photos() -> list[Tensor]:
    return [photo(height, width, seed) for seed, (height, width) in enumerate((*SIZES, (375, 500)))]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("size", [19, 96, 224, (40, 200), (33, 8)])
def test_whole_recipes_are_the_references(preset: str, size: Size) -> None:
    from triton_rendering import judged

    images = photos() if size in (19, 96, (33, 8)) else photos()[-1:]
    params = drawn_rows(PRESETS[preset], images)
    assert_within(rendered(images, params, size), *judged(images, params, size))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_strong_downscaling_and_single_pixels(interpolation: str) -> None:
    from triton_rendering import judged

    image = photo(2000, 1300)
    boxes = [(0, 0, 2000, 1300), (3, 900, 1997, 211), (1999, 1299, 1, 1), (7, 0, 1, 1300), (0, 9, 2000, 1)]
    params = replace(
        plain_rows([boxes], spec=RenderSpec(interpolation=interpolation)),
        blur_sigma=torch.full((1, 5), 1.7), contrast=torch.full((1, 5), 1.3), hue=torch.full((1, 5), -0.2),
    )  # fmt: skip
    for size in (7, 224):
        assert_within(rendered([image], params, size), *judged([image], params, size))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_form_of_output(dtype: torch.dtype, channels_last: bool) -> None:
    from triton_rendering import judged

    images = photos()
    params = drawn_rows(PRESETS["byol"], images)
    normalize = dtype.is_floating_point
    pixels = rendered(images, params, 33, dtype, channels_last=channels_last)
    assert_within(pixels, *stored(*judged(images, params, 33, normalize=normalize), dtype))
    if dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(pixels, rendered(images, params, 33).to(dtype))


def test_the_same_bits_every_time() -> None:
    images = [photo(375, 500, seed) for seed in range(8)]
    params = drawn_rows(hvs.recipes.simsiam(8), images)
    first = rendered(images, params, 224, torch.bfloat16)
    assert all(torch.equal(rendered(images, params, 224, torch.bfloat16), first) for _ in range(5))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs a second CUDA device")
@pytest.mark.parametrize("engine", ["fused", "dali-kornia"])
def test_a_device_that_is_not_the_current_one(engine: str) -> None:
    if engine == "dali-kornia":
        pytest.importorskip("nvidia.dali")
    if torch.cuda.get_device_name(0) != torch.cuda.get_device_name(1):
        pytest.skip("needs two CUDA devices of a kind, which give the same bits")
    images = [photo(60, 80), photo(33, 47)]
    params = drawn_rows(PRESETS["moco_v3"], images)
    first, second = (hvs.render([image.to(device) for image in images], params, engine=engine) for device in ("cuda:0", "cuda:1"))
    assert second.device.index == 1 and torch.cuda.current_device() == 0
    assert torch.equal(first.cpu(), second.cpu())


def test_a_canvas_of_more_elements_than_int32_counts() -> None:
    size, images = 224, 14400
    flat = torch.zeros(images * 3 * size * size, dtype=torch.uint8, device="cuda")
    canvas = Canvas.on(flat, 1, images, size)
    from hvs_data.kernels.render.triton.render import render_views

    rows = replace(plain_rows([[(0, 0, 2, 2)]]), brightness=torch.full((1, 1), 0.5))
    render_views([torch.full((2, 2, 3), 200, dtype=torch.uint8, device="cuda")], rows, canvas, normalize=False, first_image=images - 1)
    assert (canvas.pixels[0, -1] == 100).all() and not canvas.pixels[0, :-1].any()


@pytest.mark.parametrize("engine", ["auto", "fused", "reference"])
def test_the_public_function_renders_on_the_device_of_the_images(engine: str) -> None:
    images = [photo(60, 80), photo(33, 47)]
    params = drawn_rows(PRESETS["moco_v3"], images)
    actual = hvs.render([image.cuda() for image in images], params, engine=engine, normalize=False)
    assert actual.is_cuda
    # both within the bounds of their tests of a float64 rendering, but where rounding decides what is solarized
    near = (actual.cpu() - hvs.render(images, params, normalize=False)).abs() < 2**-10
    assert near.double().mean() > 0.999
