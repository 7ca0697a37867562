"""One word for several options, which stay the user's to set."""

import logging

import pytest
import torch
from torch import nn

import hvs_data as hvs
from hvs_data import Objective, SelectionError
from hvs_data.selection import budgets
from hvs_data.selection.budgets import BUDGETS
from multi_crop import make_pixels, make_recipe, make_rows
from small_vits import VisionTransformer


class Convolutional(Objective):
    def __init__(self):
        self.model = nn.Conv2d(3, 4, 3)

    def encode(self, pixels):
        return self.model(pixels).mean((2, 3))


def distillation(extras=()):
    torch.manual_seed(0)
    student, teacher = VisionTransformer(), VisionTransformer()
    objective = hvs.objectives.DINO(student, teacher, torch.zeros(1), 0.1)
    objective.extras = extras
    return objective


def options(selector):
    tokens = selector.keep_tokens
    return selector.score_size, None if tokens is None else (tokens.share, tokens.teacher), selector.prefilter


def test_without_a_budget_and_with_the_exact_one_all_is_as_published():
    for budget in (None, "exact"):
        selector = hvs.HardViewSelector(Convolutional(), budget=budget)
        assert options(selector) == (None, None, None) and selector.budget == budget


@pytest.mark.parametrize("budget", ["balanced", "cheap"])
def test_what_a_budget_sets(budget):
    size, count = BUDGETS[budget]["score_size"], BUDGETS[budget]["prefilter"]
    assert 0 < size < 1 <= count  # a share, whatever the recipe's size
    assert options(hvs.HardViewSelector(Convolutional(), budget=budget)) == (size, None, count)
    assert options(hvs.HardViewSelector(distillation(), budget=budget)) == (None, (0.25, True), count)
    assert options(hvs.HardViewSelector(distillation(), budget=budget, keep_teacher=True)) == (None, (0.25, False), count)
    assert options(hvs.HardViewSelector(distillation(extras=("mask",)), budget=budget)) == (None, None, count)
    assert options(hvs.HardViewSelector(Convolutional(), budget=budget, policy="softmax")) == (size, None, None)


def test_a_transformer_that_cannot_lose_tokens_is_scored_smaller():
    objective = distillation()
    for network in (module for root in objective.modules() for module in root.modules() if isinstance(module, VisionTransformer)):
        network.blocks[0].register_buffer("relative_position_index", torch.zeros(1))
    assert options(hvs.HardViewSelector(objective, budget="cheap")) == (BUDGETS["cheap"]["score_size"], None, 2)
    # with the teacher's outputs of whole views at hand, all are scored whole
    assert options(hvs.HardViewSelector(objective, budget="cheap", keep_teacher=True)) == (None, None, 2)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"score_size": 16}, (16, None, 3)),
        ({"score_size": None}, (None, None, 3)),
        ({"prefilter": None}, (BUDGETS["balanced"]["score_size"], None, None)),
        ({"prefilter": 5, "score_size": {"view": 0.5}}, ({"view": 0.5}, None, 5)),
    ],
    ids=str,
)
def test_what_is_given_stays(given, expected):
    assert options(hvs.HardViewSelector(Convolutional(), budget="balanced", **given)) == expected


def test_tokens_or_a_size_that_are_given_replace_the_other():
    assert options(hvs.HardViewSelector(distillation(), budget="cheap", score_size=16)) == (16, None, 2)
    assert options(hvs.HardViewSelector(distillation(), budget="cheap", keep_tokens=hvs.KeepTokens(0.5))) == (None, (0.5, True), 2)


def test_it_says_once_what_it_sets(caplog):
    budgets._announce.cache_clear()
    with caplog.at_level(logging.INFO, logger="hvs_data"):
        for _ in range(2):
            hvs.HardViewSelector(Convolutional(), budget="cheap")
        hvs.HardViewSelector(Convolutional(), budget="exact")
    (cheap, exact) = [record.getMessage() for record in caplog.records]
    assert cheap == "budget='cheap' selects with score_size=0.375, prefilter=2"
    assert exact == "budget='exact' selects with all candidates at their own size, as published"


@pytest.mark.parametrize("budget", list(BUDGETS))
@pytest.mark.parametrize("candidates", [2, 3, 8])
def test_every_budget_goes_with_any_number_of_candidates(budget, candidates):
    recipe = make_recipe(roles=("view",) * candidates, locals_=0, chosen=0, sides=(12, 6))
    selector = hvs.HardViewSelector(Convolutional(), budget=budget)
    for step in range(3):
        chosen = selector(make_pixels(recipe, 4), make_rows(recipe, 4, seed=step))
        assert [tuple(view.shape) for view in chosen] == [(4, 3, 12, 12)] * 2


def test_another_word_is_refused():
    with pytest.raises(SelectionError, match="budget must be one of"):
        hvs.HardViewSelector(Convolutional(), budget="free")
