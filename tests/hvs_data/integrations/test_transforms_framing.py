"""Converted resizes, crops, turns, posterizing and erasing: recipes by hand, laws by brute force, and pixels by torchvision."""

# Axes: B image, V view, C channel, H W pixels.

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import transforms as v1
from torchvision.transforms import v2

import hvs_data as hvs
from hvs_data.integrations.transforms import ApproximateRecipeWarning, TransformsError
from hvs_data.recipes import ColorJitter, Erasing, Recipe, Role
from render_material import photo

VERSIONS = pytest.mark.parametrize("T", [v1, v2], ids=["v1", "v2"])
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
PLAIN: dict[str, Any] = {"candidates": 1, "emitted": 1, "flip": 0, "jitter": ColorJitter(0, 0, 0, 0, 0), "gray": 0, "blur": 0}
TURNS = [v2.Identity(), *(v2.RandomRotation((90 * quarter, 90 * quarter)) for quarter in (1, 2, 3))]


def converted(*parts: Any, T: Any = v2, end: Sequence[Any] = ()) -> Recipe:
    return hvs.recipe_from(T.Compose([*parts, T.ToTensor(), T.Normalize(MEAN, STD), *end]))


pytestmark = pytest.mark.filterwarnings("ignore:The transform `ToTensor\\(\\)` is deprecated")


# --- what is cut out ---------------------------------------------------------------------------------------------------


@VERSIONS
def test_pipelines_for_evaluation(T: Any) -> None:
    (role,) = converted(T.Resize(256, antialias=True), T.CenterCrop(224), T=T).roles
    assert (role,) == hvs.recipes.evaluation(224).roles
    bicubic = converted(T.Resize([110], v1.InterpolationMode.BICUBIC, antialias=True), T.CenterCrop([96, 80]), T=T)
    assert bicubic.roles == hvs.recipes.evaluation((96, 80), 110).roles and bicubic.interpolation == "bicubic"


@VERSIONS
def test_crops(T: Any) -> None:
    padded = converted(T.RandomCrop(32, padding=4), T.RandomHorizontalFlip(), T=T)
    assert padded.roles == (Role(size=32, crop="random", padding=4, **{**PLAIN, "flip": 0.5}),)
    assert converted(T.RandomCrop((20, 30), padding=[3, 3]), T=T).roles[0].padding == 3
    assert converted(T.Resize((48, 60), antialias=True), T.RandomCrop(32), T=T).roles == (
        Role(size=32, resize=(48, 60), crop="random", **PLAIN),
    )
    resized = converted(T.Resize(48, antialias=True), T.RandomResizedCrop(32, (0.3, 1), antialias=True), T=T)
    assert resized.roles == (Role(size=32, resize=48, scale=(0.3, 1), **PLAIN),)
    assert converted(T.Resize((48, 60), antialias=True), T=T).roles == (Role(size=(48, 60), resize=(48, 60), crop="center", **PLAIN),)


def test_what_a_framing_cannot_be_is_refused() -> None:
    crop = v2.RandomResizedCrop(32, interpolation=v1.InterpolationMode.BICUBIC)
    with pytest.raises(TransformsError, match="one interpolation, got bilinear before bicubic"):
        converted(v2.Resize(48), crop)
    with pytest.raises(TransformsError, match="Resize.*is antialiased, this one's of tensors is not"):
        hvs.recipe_from(v1.Compose([v1.ToTensor(), v1.Resize(48, antialias=None), v1.CenterCrop(32)]))


# --- turns and flips ---------------------------------------------------------------------------------------------------


def shown(square: torch.Tensor) -> bytes:
    return square.to(torch.int64).numpy().tobytes()


@pytest.mark.parametrize(
    ("parts", "fields"),
    [
        ([v2.RandomChoice(TURNS)], {"turn": 0.75, "quarters": (1, 2, 3)}),
        ([v2.RandomApply([v2.RandomRotation((270, 270))], 0.4)], {"turn": 0.4, "quarters": (3,)}),
        ([v2.RandomChoice(TURNS[1::2]), v2.RandomHorizontalFlip(0.3), v2.RandomVerticalFlip(0.2)], {"turn": 1.0, "quarters": (1, 3)}),
        ([v2.RandomHorizontalFlip(0.3), v2.RandomChoice(TURNS)], {"turn": 0.75, "quarters": (1, 2, 3)}),
        ([v2.RandomVerticalFlip(0.4), v2.RandomHorizontalFlip(0.7), v2.RandomApply([TURNS[1]], 0.2)], {"turn": 0.2, "quarters": (1,)}),
        ([v2.RandomVerticalFlip(0.5), v2.RandomApply([TURNS[2]], 0.2)], {"turn": 0.2, "quarters": (2,)}),
    ],
)
def test_turns_and_flips_have_the_law_of_the_transforms(parts: list[Any], fields: dict[str, Any]) -> None:
    """Frequencies of the eight ways to lie of a square, of the transforms and of the recipe's rows."""
    (role,) = hvs.recipe_from(v2.Compose([v2.RandomResizedCrop(4), *parts, v2.ToTensor()])).roles
    assert {name: getattr(role, name) for name in fields} == fields
    count, square = 3000, torch.arange(9).reshape(1, 3, 3)
    torch.manual_seed(0)
    theirs = Counter(shown(v2.Compose(parts)(square)) for _ in range(count))
    rows = hvs.sample_views(Recipe("law", (role,)), seed=0, epoch=0, index=range(count), height=[9] * count, width=[9] * count)
    ours: Counter[bytes] = Counter()
    for b in range(count):
        x = square.flip(-1) if rows.flip[b, 0] else square
        x = x.flip(-2) if rows.vertical_flip is not None and rows.vertical_flip[b, 0] else x
        ours[shown(x if rows.turn is None else x.rot90(int(rows.turn[b, 0]), (-2, -1)))] += 1
    # Hoeffding with 1e-6 / 16 for each frequency of the two samples
    bound = 2 * (np.log(2 * 16e6) / (2 * count)) ** 0.5
    assert all(abs(ours[place] - theirs[place]) / count < bound for place in ours | theirs)


def test_turns_that_a_recipe_has_not_are_refused() -> None:
    crop, turn = v2.RandomResizedCrop(32), TURNS[1]
    for parts, why in [
        ([crop, turn, v2.RandomHorizontalFlip(0.5)], "stands before a flip; a recipe flips before it turns, and these two do not commute"),
        ([turn, crop], "a recipe turns views between their crop and their erasing"),
        ([crop, turn, turn], "a recipe does this once"),
        ([crop, v2.RandomChoice([turn, turn, TURNS[2]])], "each of its turns as often"),
    ]:
        with pytest.raises(TransformsError, match=why):
            converted(*parts)


# --- posterize and erase -----------------------------------------------------------------------------------------------


@VERSIONS
def test_posterize(T: Any) -> None:
    parts = [T.RandomResizedCrop(32, antialias=True), T.RandomSolarize(128, 0.2), T.RandomPosterize(3, 0.4)]
    with pytest.warns(ApproximateRecipeWarning, match="posterized 8-bit values"):
        (role,) = converted(*parts, T=T).roles
    assert (role.posterize, role.posterize_bits, role.solarize) == (0.4, 3, 0.2)
    with pytest.raises(TransformsError, match="RandomSolarize.*behind RandomPosterize"):
        converted(parts[0], parts[2], parts[1], T=T)


@VERSIONS
def test_erasing_behind_normalize(T: Any) -> None:
    crop = T.RandomResizedCrop(32, antialias=True)
    recipe = converted(crop, T=T, end=[T.RandomErasing(0.3, (0.1, 0.2), (0.5, 2.0), value=0.7)])
    assert recipe.roles[0].erase == Erasing(0.3, (0.1, 0.2), (0.5, 2.0), 0.7)
    assert converted(crop, T=T, end=[T.RandomErasing(value="random")]).roles[0].erase == Erasing(value="noise")
    assert converted(crop, T=T, end=[T.RandomErasing(value=(1, 2, 3)), T.RandomHorizontalFlip()]).roles[0].erase == Erasing(value=(1, 2, 3))


@VERSIONS
@pytest.mark.parametrize("value", [0.25, (0.1, 0.5, 0.9)])
def test_what_is_erased_before_normalize_is_normalised(T: Any, value: Any) -> None:
    erasing, crop = T.RandomErasing(1.0, (0.2, 0.4), value=value), T.CenterCrop(29)
    recipe = hvs.recipe_from(T.Compose([crop, T.ToTensor(), erasing, T.Normalize(MEAN, STD)]))
    image = photo(29, 29)
    rows = hvs.sample_views(recipe, seed=0, epoch=0, index=[0], height=[29], width=[29])
    assert rows.erase is not None
    top, left, height, width = rows.erase[0, 0].tolist()
    filling = torch.tensor(value).expand(3)[:, None, None]
    x_CHW = v2.functional.erase(image.permute(2, 0, 1) / 255, top, left, height, width, filling)
    assert torch.allclose(hvs.render([image], rows)[0, 0], v2.functional.normalize(x_CHW, MEAN, STD), atol=1e-5)
    with pytest.raises(TransformsError, match="noise that is normalised afterwards.*put it behind Normalize"):
        hvs.recipe_from(T.Compose([crop, T.ToTensor(), T.RandomErasing(value="random"), T.Normalize(MEAN, STD)]))
    with pytest.raises(TransformsError, match="ColorJitter.*behind RandomErasing"):
        hvs.recipe_from(T.Compose([crop, T.ToTensor(), T.RandomErasing(), T.ColorJitter(0.4)]))
