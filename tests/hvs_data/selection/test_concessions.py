"""A budget's size, or its share of tokens, that a model does not take: given up by itself, and told of once."""

import logging

import pytest
import timm
import torch
from torch import nn

import hvs_data as hvs
from hvs_data import Objective, SelectionError
from multi_crop import make_pixels, make_recipe, make_rows

SIDE = 64
RECIPE = make_recipe(roles=("view",) * 4, locals_=0, chosen=0, sides=(SIDE, SIDE))


class Embeds(Objective):
    def __init__(self, network):
        self.network = network

    def encode(self, pixels):
        return self.network(pixels)


class Picky(nn.Module):
    """Takes views of some sides only, as a network of a fixed size does."""

    def __init__(self, *sides, error=AssertionError):
        super().__init__()
        torch.manual_seed(0)
        self.sides, self.error = sides, error
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x):
        if x.shape[-1] not in self.sides:
            raise self.error(f"Input height ({x.shape[-1]}) doesn't match model ({self.sides[0]}).")
        return self.layers(x)


def network(name, **options):
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=8, **options).eval()


# A network, and the options that are left of a budget.
NETWORKS = {
    "a fixed size": (lambda: Picky(SIDE), {"score_size": None}),
    "a size that is a multiple of 32": (lambda: Picky(32, SIDE), {"score_size": 0.5}),
    "ConvNeXt": (lambda: network("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 8, 8)), {"score_size": 0.5}),
    "DINOv3 with rotary positions": (lambda: network("vit_small_patch16_dinov3", depth=1), {"keep_tokens": None}),
    "EVA with rotary positions": (lambda: network("eva02_tiny_patch14_224", depth=1, patch_size=16, img_size=SIDE), {"keep_tokens": None}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_budget_goes_on_with_what_the_model_takes_and_says_so_once(name, caplog):
    make, left = NETWORKS[name]
    if "DINOv3" in name and not timm.is_model("vit_small_patch16_dinov3"):
        pytest.skip("this timm has no DINOv3")
    objective = Embeds(make())
    pixels, rows = make_pixels(RECIPE, 4), make_rows(RECIPE, 4)
    selector = hvs.HardViewSelector(objective, budget="balanced")
    assert selector.score_size is not None or selector.keep_tokens is not None
    with caplog.at_level(logging.WARNING, logger="hvs_data"):
        selections = [selector.select(pixels, rows) for _ in range(2)]
    expected = hvs.HardViewSelector(objective, budget="balanced", **left)
    assert (selector.score_size, selector.keep_tokens) == (expected.score_size, expected.keep_tokens)
    for selection in selections:
        wanted = expected.select(pixels, rows)
        assert torch.equal(selection.losses.nan_to_num(), wanted.losses.nan_to_num()) and selection.step == wanted.step
    (said,) = [record.getMessage() for record in caplog.records]
    assert "budget='balanced'" in said and "does not take" in said


def test_what_the_user_chose_stays_and_the_error_tells_of_it():
    objective = Embeds(Picky(SIDE, error=RuntimeError))
    selector = hvs.HardViewSelector(objective, score_size=0.375)
    with pytest.raises(RuntimeError, match="doesn't match model") as raised:
        selector.select(make_pixels(RECIPE, 4), make_rows(RECIPE, 4))
    assert any("Views of 64 pixels were scored at 24 (score_size=0.375)" in note for note in raised.value.__notes__)
    assert selector.score_size == 0.375
    hvs.HardViewSelector(objective, score_size=None).select(make_pixels(RECIPE, 4))  # the remedy


def test_an_error_that_has_nothing_to_do_with_the_size_is_raised():
    objective = Embeds(Picky(error=ZeroDivisionError))
    objective.network.sides = (None,)
    selector = hvs.HardViewSelector(objective, budget="cheap")
    with pytest.raises(ZeroDivisionError) as raised:
        selector.select(make_pixels(RECIPE, 4), make_rows(RECIPE, 4))
    assert not hasattr(raised.value, "__notes__")  # raised at the views' own size, too


def test_once_it_has_worked_nothing_is_given_up():
    objective = Embeds(Picky(24, SIDE))
    selector = hvs.HardViewSelector(objective, budget="balanced")
    pixels, rows = make_pixels(RECIPE, 4), make_rows(RECIPE, 4)
    selector.select(pixels, rows)
    objective.network.sides = (SIDE,)
    with pytest.raises(AssertionError) as raised:
        selector.select(pixels, rows)
    assert "under budget='balanced'" in raised.value.__notes__[0] and selector.score_size == 0.375


def test_memory_is_no_reason_to_ask_for_more_of_it():
    objective = Embeds(Picky(SIDE, error=torch.OutOfMemoryError))
    selector = hvs.HardViewSelector(objective, budget="balanced")
    with pytest.raises(torch.OutOfMemoryError):
        selector.select(make_pixels(RECIPE, 4), make_rows(RECIPE, 4))
    assert selector.score_size == 0.375


def test_candidates_that_came_smaller_are_asked_for_anew():
    objective = Embeds(Picky(SIDE))
    selector = hvs.HardViewSelector(objective, budget="balanced", prefilter=None)
    small = [nn.functional.interpolate(view, 24) for view in make_pixels(RECIPE, 4)]
    for _ in range(2):  # half the size is tried in between
        with pytest.raises(SelectionError, match="at 24 pixels, not their own 64"):
            selector.select(small, make_rows(RECIPE, 4))
    assert selector.score_sizes(["view"], [SIDE]) == (SIDE,)
    selector.select(make_pixels(RECIPE, 4), make_rows(RECIPE, 4))
