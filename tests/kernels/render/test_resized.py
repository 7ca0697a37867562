"""Views out of resized and padded images: the reference against torchvision's Resize and crops, the Numba renderer against it."""

# Axes: B image, V view, C channel, H W pixels, S side.

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

import hvs_data as hvs
from hvs_data.arguments.sizes import Size, height_width
from hvs_data.errors import HvsError
from hvs_data.kernels.render.canvas import Canvas
from hvs_data.kernels.render.numba.render import Job, render_one
from hvs_data.kernels.render.reference import render_reference
from hvs_data.pipelines.engine import choose_engine
from hvs_data.recipes import ColorJitter, Recipe, Role
from hvs_data.types import ViewParams
from numba_rendering import assert_judged, rendered
from render_bounds import assert_within, chained_error
from render_material import INTERPOLATIONS, drawn_rows, photo
from torchvision_gaps import mode

IMAGES = [photo(29, 37), photo(75, 50, 1), photo(5, 61, 2), photo(1, 1), photo(130, 12, 3)]
ROLES: dict[str, dict[str, Any]] = {
    "evaluation": {"resize": 37, "crop": "center"},
    "central, smaller than the crop": {"resize": 13, "crop": "center"},
    "CIFAR": {"crop": "random", "padding": 4},
    "random in a resized image": {"resize": (41, 60), "crop": "random"},
    "resized before a random resized crop": {"resize": 48},
    "squeezed": {"resize": (7, 90), "scale": (0.05, 0.5)},
}


def rows_of(name: str, interpolation: str, images: list[Tensor] = IMAGES, size: Size = 32, **changes: Any) -> ViewParams:
    role = Role(candidates=3, size=size, **{"jitter": ColorJitter(p=0), "gray": 0, "blur": 0} | ROLES[name] | changes)
    return drawn_rows(Recipe("resized", (role,), interpolation=interpolation), images)


def torchvisions(image: Tensor, params: ViewParams, b: int, v: int, size: Size) -> Tensor:
    """A plain view by torchvision's resize, pad, crop and resize of float64 tensors, clamped at the end."""
    assert params.resized is not None
    options = {"interpolation": mode(params.spec.interpolation), "antialias": True}
    x_3HW = tv.resize(image.permute(2, 0, 1).double() / 255, params.resized[b, v].tolist(), **options)
    # torchvision's crop pads with zeros where the box leaves the image
    x_3HW = tv.crop(x_3HW, *params.box[b, v].tolist())
    x_3HW = tv.resize(x_3HW, list(height_width(size)), **options).clamp(0, 1)
    return tv.horizontal_flip(x_3HW) if params.flip[b, v] else x_3HW


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("name", ROLES)
def test_the_reference_does_as_torchvision(name: str, interpolation: str) -> None:
    params = rows_of(name, interpolation)
    assert params.resized is not None
    for size in (32, 19, (17, 30)):
        pixels = render_reference(IMAGES, params, size, normalize=False)
        for b, image in enumerate(IMAGES):
            for v in range(params.num_views):
                sides = list(zip(image.shape[:2], params.resized[b, v].tolist(), params.box[b, v, 2:].tolist(), strict=True))
                assert_within(pixels[b, v], torchvisions(image, params, b, v, size), chained_error(sides, size, torch.float64))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_evaluation_views_are_torchvisions_by_its_own_arguments(interpolation: str) -> None:
    """Resize, CenterCrop and Normalize by the arguments that a user gives, on images larger and smaller than the crop."""
    for resize, size in [(37, 32), (32, 32), (20, 32), (19, 5)]:
        params = rows_of("evaluation", interpolation, size=size, resize=resize, flip=0)
        for b, image in enumerate(IMAGES):
            x_3HW = tv.resize(image.permute(2, 0, 1).double() / 255, [resize], interpolation=mode(interpolation), antialias=True)
            expected = tv.center_crop(x_3HW, [size, size]).clamp(0, 1)
            expected = tv.normalize(expected, list(params.spec.mean), list(params.spec.std))
            assert torch.allclose(render_reference([image], params.images([b]), size)[0, 0], expected, atol=1e-10)
            assert torch.allclose(rendered([image], params.images([b]), size)[0, 0].double(), expected, atol=2e-5)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("name", ROLES)
def test_the_numba_renderer_does_as_the_reference(name: str, interpolation: str) -> None:
    for size in (1, 19, 32, 50, (17, 30)):
        assert_judged(IMAGES, rows_of(name, interpolation), size)
    assert_judged(IMAGES, rows_of(name, interpolation, size=(24, 40)), (24, 40))
    everything = rows_of(name, interpolation, jitter=ColorJitter(), blur=0.5, solarize=0.3, vertical_flip=0.5, turn=0.5)
    assert_judged(IMAGES, everything, 32)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_large_images_and_strong_zooms(interpolation: str) -> None:
    image = [photo(700, 1100)]
    for changes in ({"resize": 8}, {"resize": 8, "crop": "center", "size": 64}, {"resize": 3000, "crop": "center"}, {"resize": (2, 5000)}):
        assert_judged(image, rows_of("squeezed", interpolation, image, **changes), changes.get("size", 32))  # type: ignore[call-overload]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_box_in_any_resized_image(data: st.DataObject) -> None:
    def whole(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    image = photo(whole(1, 60), whole(1, 60), whole(0, 5))
    params = rows_of("CIFAR", data.draw(st.sampled_from(INTERPOLATIONS)), [image])
    box = [[(whole(-70, 150), whole(-70, 150), whole(1, 90), whole(1, 90)) for _ in range(3)]]
    resized = [[(whole(1, 120), whole(1, 120)) for _ in range(2)] + [(image.shape[0], image.shape[1])]]
    params = replace(params, box=torch.tensor(box, dtype=torch.int32), resized=torch.tensor(resized, dtype=torch.int32))
    assert_judged([image], params, whole(1, 48))


def test_beside_the_image_is_black_and_becomes_coloured_as_pixels_do() -> None:
    white = torch.full((4, 4, 3), 255, dtype=torch.uint8)
    params = rows_of("central, smaller than the crop", "bilinear", [white], size=8, resize=4, flip=0)
    assert params.resized is not None and params.box[0, 0].tolist() == [-2, -2, 8, 8]
    inside = torch.zeros(8, 8)
    inside[2:6, 2:6] = 1
    assert torch.equal(rendered([white], params, 8, normalize=False)[0, 0], inside.expand(3, 8, 8))
    solarized = rendered([white], replace(params, solarize=torch.ones_like(params.solarize)), 8, normalize=False)
    assert not solarized[0, 0].any()


def test_at_another_size_it_is_the_same_view() -> None:
    """A view twice as large, averaged over 2 x 2 pixels, is nearly the view: photographs are smooth, and bounds are of the whole range."""
    for name in ("evaluation", "CIFAR", "resized before a random resized crop"):
        params = rows_of(name, "bilinear", IMAGES[:2])
        small, large = (rendered(IMAGES[:2], params, size, normalize=False) for size in (32, 64))
        assert (torch.nn.functional.avg_pool2d(large.flatten(0, 2)[None], 2)[0] - small.flatten(0, 2)).abs().mean() < 0.02


def test_scaled_decoding_takes_the_size_in_the_source() -> None:
    from hvs_data.pipelines.scaled import boxes_in_decoded, denominator_for

    image = [photo(1, 1).expand(3000, 2000, 3)]
    params = rows_of("evaluation", "bilinear", image, size=224, resize=256)
    assert denominator_for(params, params.size) == 4  # 2000 / 256 pixels are 7.8
    assert boxes_in_decoded(params, torch.tensor([4]), [(750, 500)]) is not params
    assert torch.equal(boxes_in_decoded(params, torch.tensor([4]), [(750, 500)]).box, params.box)


def test_what_is_refused() -> None:
    params = rows_of("CIFAR", "bilinear", IMAGES[:1])
    empty = params.box.clone()
    empty[0, 1, 2] = 0
    with pytest.raises(HvsError, match="for view 1 of image 0"):
        render_reference(IMAGES[:1], replace(params, box=empty), 32)
    job = Job.make(replace(params, box=empty), Canvas.empty(3, 1, 32, torch.float32), normalize=True)
    with pytest.raises(HvsError, match="for view 1 of an image of 29 x 37"):
        render_one(IMAGES[0], 0, job)
    for engine, device in (("dali-kornia", "cpu"), ("fused", "cuda"), ("dali-kornia", "cuda")):
        with pytest.raises(HvsError, match=f"resizes or pads images before it crops, .*, got '{engine}' for images on {device}; pass"):
            choose_engine(engine, torch.device(device), resizes=True)
    assert choose_engine("auto", torch.device("cuda"), resizes=True).name == "reference"
    assert choose_engine("auto", torch.device("cpu"), resizes=True).name == "fused"
    for engine in ("auto", "fused", "reference"):
        assert hvs.render(IMAGES[:1], params, engine=engine).shape == (1, 3, 3, 32, 32)
