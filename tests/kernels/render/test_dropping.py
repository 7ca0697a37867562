"""Dropped channels: which ones, and what becomes of them on every engine."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

import hvs_data as hvs
from hvs_data import RecipeError

COUNT = 4000
RECIPE = hvs.recipes.simsiam(3, 24).with_roles(channel_drop=0.6, dropped_channels=2)


def rows(recipe: hvs.recipes.Recipe, images: int, **key: int) -> hvs.ViewParams:
    size = {"height": [40] * images, "width": [50] * images}
    return hvs.sample_views(recipe, **{"seed": 3, "epoch": 1, **key}, index=range(images), **size)


def test_every_set_of_channels_is_as_likely() -> None:
    recipe = RECIPE.with_channels((0.4,) * 4, (0.2,) * 4)
    dropped = rows(recipe, COUNT).dropped
    assert dropped is not None and dropped.dtype == torch.int32 and dropped.shape == (COUNT, 3)
    sets = {sum(1 << c for c in chosen): 0.6 / 6 for chosen in combinations(range(4), 2)} | {0: 0.4}
    found = {int(value): int(count) for value, count in zip(*dropped.unique(return_counts=True), strict=True)}
    assert found.keys() == sets.keys()
    for bits, probability in sets.items():
        # five standard deviations of a binomial count
        assert abs(found[bits] - 3 * COUNT * probability) < 5 * (3 * COUNT * probability * (1 - probability)) ** 0.5


def test_rows_belong_to_their_views_alone() -> None:
    many = rows(RECIPE, 20).dropped
    assert torch.equal(rows(replace(RECIPE, roles=(replace(RECIPE.roles[0], candidates=5),)), 20).dropped[:, :3], many)
    one = hvs.sample_views(RECIPE, seed=3, epoch=1, index=[7], height=[9], width=[200]).dropped
    assert torch.equal(one[0], many[7])
    assert not torch.equal(rows(RECIPE, 20, epoch=2).dropped, many)


def test_other_rows_are_as_without_and_recipes_without_have_none() -> None:
    plain, dropping = rows(hvs.recipes.simsiam(3, 24), 30), rows(RECIPE, 30)
    assert plain.dropped is None
    assert all(torch.equal(value, dropping.tensors()[name]) for name, value in plain.tensors().items())


def pictures() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (40, 50, 3), np.uint8) for _ in range(6)]


@pytest.mark.parametrize("engine", ["fused", "reference"])
@pytest.mark.parametrize("options", [{}, {"normalize": False}, {"dtype": torch.uint8}, {"dtype": torch.bfloat16}], ids=str)
def test_they_are_0_before_normalisation_and_others_are_as_they_were(engine: str, options: dict[str, object]) -> None:
    params = rows(RECIPE, 6)
    with_, without = (hvs.render(pictures(), its, engine=engine, **options) for its in (params, replace(params, dropped=None)))
    normalized = options in ({}, {"dtype": torch.bfloat16})
    black = torch.tensor([-m / s if normalized else 0.0 for m, s in zip(params.spec.mean, params.spec.std, strict=True)]).to(with_.dtype)
    assert params.dropped.any()
    for b, v, c in np.ndindex(6, 3, 3):
        if int(params.dropped[b, v]) >> c & 1:
            # (0 - mean) / std by float32 in another order of operations
            torch.testing.assert_close(
                with_[b, v, c], black[c].expand(24, 24), rtol=2**-22 if with_.dtype != torch.bfloat16 else 2**-8, atol=0
            )
        else:
            assert torch.equal(with_[b, v, c], without[b, v, c])


def test_erased_rectangles_lie_over_them_and_a_stage_sees_them() -> None:
    params = rows(RECIPE.with_roles(erase=hvs.recipes.Erasing(p=1, value=5.0)), 6)
    views = hvs.render(pictures(), params)
    for b, v in np.ndindex(6, 3):
        top, left, height, width = params.erase[b, v].tolist()
        assert views[b, v, :, top : top + height, left : left + width].eq(5).all()
    plain = rows(RECIPE, 6)

    def lifted(x_NCHW: Tensor) -> Tensor:
        return x_NCHW + 0.25

    staged = hvs.render(pictures(), plain, normalize=False, extra_stage=lifted)
    b, v = plain.dropped.nonzero()[0].tolist()
    channel = next(c for c in range(3) if int(plain.dropped[b, v]) >> c & 1)
    assert staged[b, v, channel].eq(0.25).all()


def test_they_are_dropped_of_many_channels_of_16_bits() -> None:
    recipe = hvs.recipes.simsiam(2, 16).with_channels((0.5,) * 13, (0.25,) * 13, (0, 4095)).with_roles(channel_drop=1.0, dropped_channels=5)
    images = [np.random.default_rng(seed).integers(0, 4096, (30, 30, 13), np.uint16) for seed in range(3)]
    params = hvs.sample_views(recipe, seed=0, epoch=0, index=range(3), height=[30] * 3, width=[30] * 3)
    views = hvs.render(images, params)
    assert views.eq(-2).flatten(3).all(3).sum(2).eq(5).all()


def test_chosen_views_lose_the_channels_that_their_candidates_lost() -> None:
    images = [(picture, 0) for picture in pictures()]
    views = hvs.ViewLoader(images, RECIPE.with_roles(channel_drop=1.0), 6, num_threads=1, normalize=False, shuffle=False)

    class Same(torch.nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return pixels.mean((2, 3))

    selector = hvs.HardViewSelector(
        hvs.objectives.SimCLR(encoder=Same(), projector=torch.nn.Identity()), score_size=12, prepare=torch.nn.Identity()
    )
    (batch,) = hvs.HardViewLoader(views, selector)
    chosen = batch.params.take(batch.selection.slots).dropped
    for k, view in enumerate(batch.views):
        lost = torch.stack([view[:, c].flatten(1).eq(0).all(1) for c in range(3)], dim=1)
        assert torch.equal(lost, torch.stack([(chosen[:, k] >> c & 1).bool() for c in range(3)], dim=1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"channel_drop": 1.5}, "channel_drop must satisfy 0 <= channel_drop <= 1"),
        ({"channel_drop": 0.5, "dropped_channels": 3}, "dropped_channels must be below the 3 channels"),
        ({"dropped_channels": 0}, "dropped_channels must be a whole number from 1 to 15"),
    ],
)
def test_what_leaves_nothing_is_refused(change: dict[str, float], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        hvs.recipes.simsiam(2).with_roles(**change)
