"""Settings that were seen to hurt are told of, others are not, and what a message advises silences it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

import hvs_data as hvs
from given_losses import Numbered

SMALL_CROPS = hvs.recipes.simclr(candidates=4, size=32)
IMAGES = [(np.zeros((40, 40, 3), np.uint8), 0)] * 4
MANY = hvs.recipes.simsiam(candidates=16, size=32)


def told(recipe: hvs.recipes.Recipe, **options: Any) -> list[str]:
    """Messages of a loader of hard views."""
    loader = hvs.ViewLoader(IMAGES, recipe, 4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        hvs.HardViewLoader(loader, hvs.HardViewSelector(Numbered(torch.zeros(1, 1, 1)), **options))
    assert all(warning.category is hvs.HardnessWarning and warning.filename == __file__ for warning in caught)
    return [str(warning.message) for warning in caught]


def test_small_crops_of_small_views_are_told_of() -> None:
    (message,) = told(SMALL_CROPS)
    assert "got crops from 0.08 for views of 32" in message


def test_what_the_message_advises_silences_it() -> None:
    assert told(SMALL_CROPS.with_roles(scale=(0.2, 1))) == []
    assert told(SMALL_CROPS, policy="feasible") == []


def test_many_candidates_of_which_rows_choose_are_told_of() -> None:
    (message,) = told(MANY, budget="cheap")
    assert "got 16" in message
    assert told(MANY.with_roles(scale=(0.6, 1)), budget="cheap") == []
    assert told(MANY, budget="cheap", policy="feasible") == []
    assert told(hvs.recipes.simsiam(candidates=8, size=32), budget="cheap") == []
    assert told(MANY, budget="balanced") == []


@pytest.mark.parametrize(
    "options", [{"policy": "random"}, {"policy": "easiest"}, {"policy": "softmax"}, {"allowed": hvs.rules.MinIoU(0.1)}]
)
def test_policies_that_do_not_seek_and_rules_are_not_told_of(options: dict[str, Any]) -> None:
    assert told(SMALL_CROPS, **options) == []


@pytest.mark.parametrize(
    "recipe", [hvs.recipes.simclr(4, 96), hvs.recipes.simclr(2, 32), hvs.recipes.simsiam(4, 32), SMALL_CROPS.with_roles(crop="random")]
)
def test_other_views_are_not_told_of(recipe: hvs.recipes.Recipe) -> None:
    assert told(recipe) == []
