"""What rows hold only where a role draws it: its distribution, its identity, and that no other row knows of it."""

# Axes: B image, V view.

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import RandomErasing

import hvs_data as hvs
from hvs_data.recipes import Erasing, Recipe, Role, simsiam
from hvs_data.recipes.spec import SHARED
from hvs_data.types import ViewParams

ALPHA = 1e-4
TURNING = {"vertical_flip": 0.4, "turn": 0.6, "quarters": (1, 3), "posterize": 0.2, "posterize_bits": 3, "erase": Erasing(0.7)}
OPTIONAL = {"vertical_flip", "turn", "posterize", "erase"}
# Of seed 11 and epoch 2, images 0 to 3, four views each.
GOLDEN = {
    "vertical_flip": [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]],
    "turn": [[1, 3, 0, 0], [0, 1, 1, 0], [1, 3, 3, 0], [1, 3, 0, 1]],
    "posterize": [[3, 8, 3, 3], [8, 8, 3, 8], [8, 8, 8, 3], [3, 8, 3, 8]],
}


def rows(recipe: Recipe, count: int = 1, **key: Any) -> ViewParams:
    key = {"seed": 11, "epoch": 2, "index": range(count), "height": [300] * count, "width": [400] * count} | key
    return hvs.sample_views(recipe, **{name: list(value) if isinstance(value, range) else value for name, value in key.items()})


def assert_probability(event: Tensor, p: float) -> None:
    assert stats.binomtest(int(event.sum()), event.numel(), p).pvalue > ALPHA


def equal(one: ViewParams, other: ViewParams) -> bool:
    return one.tensors().keys() == other.tensors().keys() and all(torch.equal(v, other.tensors()[n]) for n, v in one.tensors().items())


def test_rows_without_them_are_the_same_rows() -> None:
    plain, more = rows(simsiam(4), 50), rows(simsiam(4).with_roles(**TURNING), 50)
    assert not plain.tensors().keys() & OPTIONAL and more.tensors().keys() - plain.tensors().keys() == OPTIONAL
    assert all(torch.equal(value, more.tensors()[name]) for name, value in plain.tensors().items())


@pytest.mark.parametrize("name", sorted(OPTIONAL))
def test_a_row_holds_what_one_of_its_roles_draws(name: str) -> None:
    first = Role("global1", candidates=2, emitted=1)
    recipe = Recipe("two", (first, replace(first, name="global2", **{name: Erasing(1) if name == "erase" else 1.0})))
    params = rows(recipe, 20)
    assert params.tensors().keys() & OPTIONAL == {name}
    nothing = 8 if name == "posterize" else 0
    drawn = (params.tensors()[name] != nothing).flatten(2).any(-1) if name == "erase" else params.tensors()[name] != nothing
    assert not drawn[:, :2].any() and drawn[:, 2:].all()


def test_probabilities() -> None:
    params = rows(simsiam(2).with_roles(**TURNING), 30_000)
    assert params.vertical_flip is not None and params.turn is not None and params.posterize is not None
    assert_probability(params.vertical_flip, 0.4)
    assert_probability(params.turn > 0, 0.6)
    assert_probability(params.turn[params.turn > 0] == 1, 0.5)
    assert set(params.turn.unique().tolist()) == {0, 1, 3} and set(params.posterize.unique().tolist()) == {3, 8}
    assert_probability(params.posterize == 3, 0.2)
    together = [params.flip, params.gray, params.vertical_flip, params.turn == 1, params.posterize == 3]
    correlation = torch.corrcoef(torch.stack([event.flatten().float() for event in together])) - torch.eye(len(together))
    assert correlation.abs().max() < 4.5 / 60_000**0.5


def test_numbers_of_one_key_never_change() -> None:
    params = rows(simsiam(4).with_roles(**TURNING), 4)
    drawn = {name: params.tensors()[name].int().tolist() for name in GOLDEN}
    assert drawn == GOLDEN


@pytest.mark.parametrize("scale", [(0.02, 0.33), (0.5, 1.0), (0.0001, 0.01)], ids=str)
@pytest.mark.parametrize("size", [224, 31])
def test_what_is_erased_is_distributed_as_torchvisions(size: int, scale: tuple[float, float]) -> None:
    ratio = (0.3, 3.3)
    params = rows(Recipe("erased", (Role(size=size, erase=Erasing(1, scale, ratio)),)), 4000)
    assert params.erase is not None
    ours = params.erase.flatten(0, 1).numpy()
    torch.manual_seed(0)
    blank = torch.zeros(1, size, size)
    drawn = [RandomErasing.get_params(blank, scale, ratio, [0.0]) for _ in range(8000)]
    # torchvision's way to say that no try fits is the whole image; a rectangle without a side is none
    theirs = np.array([(0, 0, 0, 0) if (h, w) == (size, size) or 0 in (h, w) else (top, left, h, w) for top, left, h, w, _ in drawn])
    happened = [int((boxes[:, 2] > 0).sum()) for boxes in (ours, theirs)]
    if min(happened) < 8000:
        assert stats.chi2_contingency([[count, 8000 - count] for count in happened]).pvalue > ALPHA
    ours, theirs = ours[ours[:, 2] > 0], theirs[theirs[:, 2] > 0]
    assert (ours[:, :2] >= 0).all() and (ours[:, :2] + ours[:, 2:] <= size).all()
    for of in (lambda box: box[:, 0], lambda box: box[:, 1], lambda box: box[:, 2] * box[:, 3], lambda box: box[:, 2] / box[:, 3]):
        assert stats.ks_2samp(of(ours), of(theirs)).pvalue > ALPHA


@pytest.mark.parametrize("more", [4, 9])
def test_the_first_candidates_do_not_depend_on_their_number(more: int) -> None:
    assert equal(rows(simsiam(2).with_roles(**TURNING), 40), rows(simsiam(more).with_roles(**TURNING), 40).views([0, 1]))


def test_rows_do_not_depend_on_the_batch() -> None:
    recipe = simsiam(3).with_roles(**TURNING)
    whole = rows(recipe, 30)
    for image in (0, 7, 29):
        assert equal(rows(recipe, index=[image], height=[300], width=[400]), whole.images([image]))
    assert equal(ViewParams.concatenate([whole.images(slice(0, 9)), whole.images(slice(9, 30))]), whole)


@pytest.mark.parametrize("shared", ["color", "crop"])
def test_what_is_shared(shared: str) -> None:
    recipe = simsiam(6).with_roles(**TURNING).with_shared(shared)
    params, own = rows(recipe, 50), rows(recipe.with_roles(shared=None), 50)
    for name in sorted(OPTIONAL):  # what is erased is each view's own
        value, expected = params.tensors()[name], own.tensors()[name]
        assert not torch.equal(expected, expected[:, [0, 0, 0, 3, 3, 3]])
        assert torch.equal(value, expected[:, [0, 0, 0, 3, 3, 3]] if name in SHARED[shared] else expected), name


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("quarters", (), r"quarters must hold some of 1, 2 and 3, got \(\); they are turns counterclockwise"),
        ("quarters", (0, 1), "quarters must hold some of 1, 2 and 3"),
        ("quarters", (1, 1), "quarters must hold some of 1, 2 and 3"),
        ("quarters", 1, "quarters must hold some of 1, 2 and 3, got 1"),
        ("turn", 1.5, "turn must satisfy 0 <= turn <= 1"),
        ("vertical_flip", -1, "vertical_flip must satisfy"),
        ("posterize", 4, "posterize must satisfy 0 <= posterize <= 1, got 4; it is the probability"),
        ("erase", 0.5, r"erase must be an Erasing or None, got 0.5; write Erasing\(p=0.25\)"),
        ("posterize_bits", 8, "posterize_bits must be a whole number from 1 to 7, got 8"),
    ],
)
def test_wrong_fields_are_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(hvs.RecipeError, match=message):
        Role(**{field: value})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"p": 2}, "erasing p must satisfy 0 <= erasing p <= 1"),
        ({"scale": (0, 1)}, r"erasing scale must satisfy 0 < lo <= hi <= 1, got \(0, 1\); it is a fraction of the view's area"),
        ({"ratio": 1}, "erasing ratio must be a pair"),
        (
            {"value": "random"},
            "erasing value must be a number of .* got 'random'; .* pass \"noise\" for standard normal noise",
        ),
        ({"value": (1, "a", 2)}, "erasing value must be a number"),
    ],
)
def test_wrong_erasing_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(hvs.RecipeError, match=message):
        Erasing(**values)


def test_a_recipe_erases_with_one_value() -> None:
    first = Role("global1", candidates=1, emitted=1, erase=Erasing(value=1))
    for value in ((1, 1, 1), "noise"):
        with pytest.raises(hvs.RecipeError, match="erasing must have one value in all roles, got .*; give every Erasing the same"):
            Recipe("two", (first, replace(first, name="global2", erase=Erasing(value=value))))
    with pytest.raises(hvs.RecipeError, match=r"erasing value must be one number, or 3, one for each channel, got \(1.0, 2.0\)"):
        Recipe("one", (replace(first, erase=Erasing(value=(1, 2))),))
    assert Recipe("two", (first, replace(first, name="global2", erase=None))).spec.erase_value == 1


def test_quarter_turns_are_for_square_views() -> None:
    with pytest.raises(hvs.RecipeError, match=r"not square, got 0.5 at the size \(8, 9\)"):
        Role(size=(8, 9), turn=0.5)
    assert Role(size=(8, 9), turn=0.5, quarters=(2,)).size == (8, 9)
