"""Rows: indexing, taking, joining."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import hvs_data as hvs
from hvs_data.errors import HvsError
from hvs_data.recipes import dinov2, simsiam
from hvs_data.types import RenderSpec, ViewParams


def assert_rows(params: ViewParams, image: int, slot: int, source: ViewParams, source_image: int, source_slot: int) -> None:
    for name, value in params.tensors().items():
        assert torch.equal(value[image, slot], source.tensors()[name][source_image, source_slot]), name


def test_slots_of_a_role(params: ViewParams) -> None:
    assert (params.batch_size, params.num_views) == (5, 12)
    assert (params.slots("global1"), params.slots("global2"), params.slots("local")) == ((0, 1), (2, 3), tuple(range(4, 12)))
    assert params.slots("view") == ()


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        (slice(1, 3), [1, 2]),
        (slice(None, None, 2), [0, 2, 4]),
        ([4, 0, 0], [4, 0, 0]),
        ((3, 1), [3, 1]),
        ((2,), [2]),
        ([], []),
        (torch.tensor([2, 2]), [2, 2]),
        (torch.tensor([True, False, False, True, False]), [0, 3]),
        (np.array([1, 4]), [1, 4]),
    ],
    ids=str,
)
def test_images_indexes_the_image_axis(params: ViewParams, rows: Any, kept: list[int]) -> None:
    taken = params.images(rows)
    assert (taken.batch_size, taken.num_views) == (len(kept), 12)
    assert (taken.role, taken.size, taken.spec) == (params.role, params.size, params.spec)
    for position, image in enumerate(kept):
        for slot in range(12):
            assert_rows(taken, position, slot, params, image, slot)


@pytest.mark.parametrize("slots", [[0, 2], (11, 4, 4), range(4, 12), []], ids=str)
def test_views_indexes_the_slot_axis(params: ViewParams, slots: Any) -> None:
    taken = params.views(slots)
    assert (taken.batch_size, taken.num_views) == (5, len(slots))
    assert taken.role == tuple(params.role[slot] for slot in slots)
    assert taken.size == tuple(params.size[slot] for slot in slots)
    for image in range(5):
        for position, slot in enumerate(slots):
            assert_rows(taken, image, position, params, image, slot)


def test_take_gives_each_image_its_own_slots(params: ViewParams) -> None:
    slots = torch.tensor([[1, 3, 4], [0, 2, 11], [1, 2, 5], [3, 0, 4], [0, 3, 6]])
    taken = params.take(slots)
    assert (taken.batch_size, taken.num_views) == (5, 3)
    assert taken.role == ("global1", "global2", "local") and taken.size == (224, 224, 96)
    for image in range(5):
        for position in range(3):
            assert_rows(taken, image, position, params, image, int(slots[image, position]))


def test_rows_know_how_many_views_of_a_role_are_emitted(params: ViewParams) -> None:
    assert params.emitted == {"global1": 1, "global2": 1, "local": 8}
    assert params.images([1]).emitted == params.emitted == ViewParams.concatenate([params, params]).emitted
    # of what is left
    assert params.views([0, 2, 5, 4]).emitted == {"global1": 1, "global2": 1, "local": 2}
    assert params.views([4]).emitted == {"local": 1}
    assert params.take(torch.tensor([[0, 3]] * 5)).emitted == {"global1": 1, "global2": 1}


def test_take_of_no_images(params: ViewParams) -> None:
    taken = params.images([]).take(torch.zeros(0, 2, dtype=torch.int64))
    assert taken.box.shape == (0, 2, 4) and len(taken.role) == len(taken.size) == 2


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        (torch.zeros(5, dtype=torch.int64), r"shape \[5, K\], got \(5,\)"),
        (torch.zeros(4, 2, dtype=torch.int64), r"shape \[5, K\], got \(4, 2\)"),
        (torch.full((5, 2), 12), "slots from 0 to 11, got values from 12 to 12"),
        (torch.full((5, 2), -1), "slots from 0 to 11, got values from -1 to -1"),
        (torch.tensor([[0, 4]] * 4 + [[0, 0]]), r"sizes \[224, 96\] in column 1"),
    ],
)
def test_take_refuses_other_slots(params: ViewParams, slots: torch.Tensor, message: str) -> None:
    with pytest.raises(HvsError, match=message):
        params.take(slots)


def test_concatenate_is_undone_by_indexing(params: ViewParams) -> None:
    joined = ViewParams.concatenate([params.images([3, 1]), params.images([]), params.images(slice(0, 1))])
    expected = params.images([3, 1, 0])
    assert all(torch.equal(value, expected.tensors()[name]) for name, value in joined.tensors().items())
    assert (joined.role, joined.size, joined.spec) == (params.role, params.size, params.spec)


def test_concatenate_refuses_parts_that_differ(params: ViewParams) -> None:
    others = [params.views(range(11)), replace(params, spec=RenderSpec(blur_kernel=9)), replace(params, size=(64,) * 12)]
    for other in (*others, replace(params, emitted={})):
        with pytest.raises(HvsError, match="parts of one recipe.* in part 1"):
            ViewParams.concatenate([params, other])
    with pytest.raises(HvsError, match="at least one part"):
        ViewParams.concatenate([])


@pytest.mark.parametrize("recipe", [simsiam(candidates=4), dinov2(candidates=2)], ids=lambda recipe: recipe.name)
def test_rows_carry_what_a_renderer_needs_of_the_recipe(recipe: hvs.recipes.Recipe) -> None:
    recipe = replace(recipe, interpolation="bicubic", blur_kernel=5, mean=(0.1, 0.2, 0.3), std=(1, 2, 3))
    params = hvs.sample_views(recipe, seed=0, epoch=0, index=[0], height=[9], width=[9])
    assert params.spec == RenderSpec("bicubic", (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), 5, 128 / 255)
