"""Scoring sees what the model sees: views that the trainer's step normalises, and sizes that the model takes."""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import hvs_data as hvs
from hvs_data import Objective, SelectionError

RECIPE = hvs.recipes.simsiam(4, size=24)
MEAN, STD = (torch.tensor(value)[:, None, None] for value in (RECIPE.mean, RECIPE.std))


def normalize(pixels: Tensor) -> Tensor:
    values = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
    return (values - MEAN) / STD


class Embeds(Objective):
    def __init__(self, side: int | None = None) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Conv2d(3, 8, 5, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.side = side

    def encode(self, pixels: Tensor) -> Tensor:
        if self.side not in (None, pixels.shape[-1]):
            raise AssertionError(f"Input height ({pixels.shape[-1]}) doesn't match model ({self.side}).")
        return self.network(pixels)


def selections(photos: Path, selector: hvs.HardViewSelector, **options: object) -> list[hvs.Batch]:
    return list(hvs.HardViewLoader(hvs.ViewLoader(photos, RECIPE, 8, seed=3, drop_last=True, **options), selector))


@pytest.mark.parametrize("late", [{}, {"score_size": 12}], ids=str)
def test_prepare_scores_as_the_trainers_step_would_see_the_views(photos: Path, late: dict[str, int]) -> None:
    expected = selections(photos, hvs.HardViewSelector(Embeds(), **late))
    selector = hvs.HardViewSelector(Embeds(), prepare=normalize, **late)
    raw = selections(photos, selector, normalize=False)
    for batch, wanted in zip(raw, expected, strict=True):
        # (x - m) / s in one rounding more than the renderer's: losses are cosines of 8 features, each a sum of 75 products and a mean
        torch.testing.assert_close(batch.selection.losses, wanted.selection.losses, rtol=0, atol=1e-4, equal_nan=True)
        for view, normalised in zip(batch.views, wanted.views, strict=True):
            if torch.equal(batch.selection.pair, wanted.selection.pair):
                torch.testing.assert_close(normalize(view), normalised, rtol=0, atol=1e-5)
        assert 0 <= float(batch.views[0].min()) and float(batch.views[0].max()) <= 1 and not batch.normalized  # handed out as they were


def test_whole_numbers_are_scored_as_well(photos: Path) -> None:
    expected = selections(photos, hvs.HardViewSelector(Embeds()))
    raw = selections(photos, hvs.HardViewSelector(Embeds(), prepare=normalize), dtype=torch.uint8)
    for batch, wanted in zip(raw, expected, strict=True):
        assert batch.views[0].dtype == torch.uint8
        # pixels err by half of 1/255, over standard deviations of .22: 0.9 %, and cosines of centred features by a few times that
        torch.testing.assert_close(batch.selection.losses, wanted.selection.losses, rtol=0, atol=0.05, equal_nan=True)


@pytest.mark.parametrize("options", [{"normalize": False}, {"dtype": torch.uint8}, {"recipe": None}], ids=str)
def test_views_that_are_not_normalised_are_warned_of_unless_it_is_said_what_is_done_to_them(photos: Path, options: dict) -> None:
    recipe = replace(RECIPE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)) if "recipe" in options else RECIPE
    rest = {name: value for name, value in options.items() if name != "recipe"}
    loader = hvs.ViewLoader(photos, recipe, 8, **rest)
    with pytest.warns(UserWarning, match="prepare=normalize"):
        hvs.HardViewLoader(loader, hvs.HardViewSelector(Embeds()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hvs.HardViewLoader(loader, hvs.HardViewSelector(Embeds(), prepare=normalize))
        hvs.HardViewLoader(loader, hvs.HardViewSelector(Embeds(), prepare=nn.Identity()))
        hvs.HardViewLoader(hvs.ViewLoader(photos, RECIPE, 8), hvs.HardViewSelector(Embeds()))


class Standardize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", MEAN)
        self.register_buffer("std", STD)

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels - self.mean) / self.std


def test_a_module_prepares_like_a_function(photos: Path) -> None:
    selected = [
        selections(photos, hvs.HardViewSelector(Embeds(), prepare=prepare), normalize=False)[0].selection.losses.nan_to_num()
        for prepare in (normalize, Standardize())
    ]
    assert torch.equal(*selected)


def test_a_prepare_that_is_none_is_refused(photos: Path) -> None:
    with pytest.raises(SelectionError, match="prepare must be a function of views"):
        hvs.HardViewSelector(Embeds(), prepare="normalize")
    selector = hvs.HardViewSelector(Embeds(), prepare=lambda pixels: pixels[:1])
    with pytest.raises(SelectionError, match=r"expected prepare to return a floating tensor of the 32 views"):
        selections(photos, selector, normalize=False)


@pytest.mark.parametrize("budget", ["balanced", "cheap"])
def test_a_budget_gives_up_a_size_that_the_model_does_not_take(photos: Path, budget: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="hvs_data"):
        batches = selections(photos, hvs.HardViewSelector(Embeds(side=24), budget=budget))
    expected = selections(photos, hvs.HardViewSelector(Embeds(side=24), budget=budget, score_size=None))
    assert len(batches) == 2 and sum("does not take" in record.getMessage() for record in caplog.records) == 1
    for batch, wanted in zip(batches, expected, strict=True):
        assert torch.equal(batch.selection.slots, wanted.selection.slots)
        assert all(torch.equal(view, other) for view, other in zip(batch.views, wanted.views, strict=True))


def test_lazy_modules_are_told_to_run_once(photos: Path) -> None:
    objective = Embeds()
    objective.network = nn.Sequential(nn.LazyConv2d(8, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    loader = hvs.HardViewLoader(hvs.ViewLoader(photos, RECIPE, 8), hvs.HardViewSelector(objective))
    with pytest.raises(SelectionError, match="LazyConv2d has no parameters yet.*run one forward"):
        next(iter(loader))
    objective.network(torch.zeros(2, 3, 24, 24))  # the remedy
    assert next(iter(loader)).selection.scored
