"""Boxes in resized images, random and central crops: sizes and places are torchvision's, and areas and overlap those in the source."""

# Axes: B image, V view.

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import v2

import hvs_data as hvs
from hvs_data.recipes import Recipe, Role, simsiam
from hvs_data.types import ViewParams, pairwise_iou

ALPHA = 1e-4
SIDE = st.integers(1, 90) | st.integers(1, 3000)


def rows(sizes: list[tuple[int, int]], **role: Any) -> ViewParams:
    recipe = Recipe("resized", (Role(**{"size": 32} | role),))
    height, width = zip(*sizes, strict=True)
    return hvs.sample_views(recipe, seed=3, epoch=1, index=range(len(sizes)), height=height, width=width)


@settings(deadline=None, max_examples=200)
@given(SIDE, SIDE, st.integers(1, 300))
def test_resized_sizes_are_torchvisions(height: int, width: int, side: int) -> None:
    # a one-channel image without memory: the size is all that is wanted
    image = torch.empty(1, height, width, device="meta")
    params = rows([(height, width)], resize=side)
    assert params.resized is not None
    assert tuple(params.resized[0, 0].tolist()) == v2.functional.resize(image, [side], antialias=True).shape[1:]
    both = rows([(height, width)], resize=(side, 7)).resized
    assert both is not None and both[0, 0].tolist() == [side, 7]


@settings(deadline=None, max_examples=200)
@given(SIDE, SIDE, st.integers(1, 90), st.integers(1, 90))
def test_central_boxes_are_torchvisions(height: int, width: int, high: int, wide: int) -> None:
    params = rows([(height, width)], size=(high, wide), crop="center")
    place = torch.cartesian_prod(torch.arange(1, height + 1), torch.arange(1, width + 1)).T.reshape(2, height, width)
    top, left, box_height, box_width = params.box[0, 0].tolist()
    assert (box_height, box_width) == (high, wide)
    cropped = v2.functional.center_crop(place, [high, wide])
    y, x = torch.arange(top + 1, top + high + 1), torch.arange(left + 1, left + wide + 1)
    inside = ((y > 0) & (y <= height))[:, None] & ((x > 0) & (x <= width))
    assert torch.equal(cropped, torch.stack([y[:, None].expand(high, wide), x.expand(high, wide)]) * inside)


@pytest.mark.parametrize(("height", "width", "size", "padding"), [(32, 32, 32, 4), (40, 33, 32, 0), (20, 50, 32, 3), (5, 9, 32, 0)])
def test_random_boxes_are_in_every_place_of_the_padded_image_as_often(height: int, width: int, size: int, padding: int) -> None:
    params = rows([(height, width)] * 20_000, size=size, crop="random", padding=padding)
    image = torch.empty(1, height, width, device="meta")
    crop = v2.RandomCrop(size, padding=padding, pad_if_needed=True)
    places = crop.make_params([image])  # what torchvision pads, and where it then crops
    above, before = (places["padding"][side] for side in (1, 0)) if places["needs_pad"] else (padding, padding)
    for start, length, pad in ((params.box[..., 0], height, above), (params.box[..., 1], width, before)):
        counts = torch.bincount((start + pad).flatten(), minlength=length + 2 * pad - size + 1)
        assert len(counts) == length + 2 * pad - size + 1
        assert len(counts) == 1 or stats.chisquare(counts.numpy()).pvalue > ALPHA
    assert (params.box[..., 2:] == size).all()


def test_random_resized_boxes_in_the_resized_image_are_those_of_an_image_of_that_size() -> None:
    sizes = [(375, 500), (31, 900), (64, 64)]
    params = rows(sizes, resize=48)
    assert params.resized is not None
    small = rows([tuple(size) for size in params.resized[:, 0].tolist()])
    assert torch.equal(params.box, small.box) and small.resized is None
    others = params.tensors().keys() - {"box", "resized"}
    assert all(torch.equal(params.tensors()[name], small.tensors()[name]) for name in others)


def test_roles_that_resize_leave_the_others_alone() -> None:
    first = Role("global1", candidates=2, emitted=1)
    recipe = Recipe("two", (first, replace(first, name="global2", resize=64, crop="center", size=48)))
    plain = replace(recipe, roles=(first, replace(first, name="global2", size=48)))
    params, own = (hvs.sample_views(each, seed=0, epoch=0, index=[0, 1], height=[90, 40], width=[50, 70]) for each in (recipe, plain))
    assert params.resized is not None and params.resized.tolist() == [
        [[0, 0], [0, 0], [115, 64], [115, 64]],
        [[0, 0], [0, 0], [64, 112], [64, 112]],
    ]
    assert torch.equal(params.box[:, :2], own.box[:, :2]) and params.box[:, 2:].unique(dim=0).shape[0] == 2


def test_the_first_candidates_do_not_depend_on_their_number_or_on_the_batch() -> None:
    role = {"resize": 60, "crop": "random", "padding": 3}
    sizes = [(90, 50), (40, 70), (300, 31)]
    few, many = (rows(sizes, candidates=count, **role) for count in (2, 7))
    assert all(torch.equal(value, many.views([0, 1]).tensors()[name]) for name, value in few.tensors().items())
    assert torch.equal(rows(sizes[:2], **role).box, few.box[:2])


# --- in the source -----------------------------------------------------------------------------------------------------


def test_areas_and_overlap_are_those_in_the_source() -> None:
    """By masks of the source image's pixels: the image is resized to half its size, so that every box holds whole pixels of it."""
    size = (120, 160)
    params = rows([size] * 5, candidates=6, resize=(60, 80), size=32, crop="random", padding=10)
    shown = torch.zeros(5, 6, *size)
    for b, v in torch.cartesian_prod(torch.arange(5), torch.arange(6)).tolist():
        top, left, height, width = (2 * params.box[b, v]).tolist()
        shown[b, v, max(top, 0) : top + height, max(left, 0) : left + width] = 1
    both = torch.einsum("bvhw,buhw->bvu", shown, shown)
    area = shown.sum((2, 3))
    assert torch.equal(params.source_box[..., 2:].prod(-1).float(), area)
    assert torch.allclose(hvs.iou(params), both / (area[:, :, None] + area[:, None] - both))
    large = hvs.rules.MinArea(0.2)(params)
    assert torch.equal(large.diagonal(dim1=1, dim2=2), area >= 0.2 * 120 * 160)


def test_boxes_of_images_that_are_not_resized_are_the_boxes() -> None:
    params = rows([(90, 50)])
    assert params.source_box is params.box
    recipe = Recipe("two", (Role("global1"), Role("global2", resize=64)))
    mixed = hvs.sample_views(recipe, seed=0, epoch=0, index=[0], height=[90], width=[50])
    assert torch.equal(mixed.source_box[:, :2], mixed.box[:, :2].double())
    with pytest.raises(hvs.HvsError, match="boxes in resized images expect rows that know the image's size"):
        hvs.iou(replace(mixed, image_size=None))


def test_overlap_of_integer_boxes_is_what_it_was() -> None:
    box = torch.tensor([[0, 0, 2**31 - 1, 2**31 - 1], [0, 0, 2**31 - 1, 2**30]], dtype=torch.int32)
    assert pairwise_iou(box)[0, 1] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("role", "message"),
    [
        ({"resize": 0}, r"resize must be a whole number from 1 to 32768, got 0; it is the image's shorter side after resizing, or a pair"),
        ({"resize": (4, 5, 6)}, "resize must be a whole number"),
        ({"resize": (4, -1)}, "resize must be a whole number from 1 to 32768, got -1"),
        ({"crop": "centre"}, "crop must be one of .*, got 'centre'; the last two cut out a box of the view's size"),
        ({"crop": "random", "padding": 32, "size": 32}, "padding must be a whole number from 0 to 31, got 32"),
        ({"padding": 4}, "padding must be 0 unless crop is 'random', got 4 with crop='random_resized'; leave it out"),
    ],
)
def test_wrong_roles_are_refused(role: dict[str, Any], message: str) -> None:
    with pytest.raises(hvs.RecipeError, match=message):
        simsiam().with_roles(**role)
