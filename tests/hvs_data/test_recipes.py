"""Presets against the published settings written out, and every wrong value refused with a message that helps."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvs_data import recipes
from hvs_data.errors import HvsError, RecipeError
from hvs_data.recipes import ColorJitter, Recipe, Role
from hvs_data.types import IMAGENET_MEAN, IMAGENET_STD

STRONG, MILD, PLAIN = (0.8, 0.8, 0.8, 0.2), (0.4, 0.4, 0.2, 0.1), (0.4, 0.4, 0.4, 0.1)
TWO_GLOBALS = {"global1": (1.0, 0.0), "global2": (0.1, 0.2)}  # probabilities of blur and of solarize

# recipe, interpolation, blur kernel, then for each role: candidates, size, scale, jitter (b, c, s, h), blur p, solarize p
PUBLISHED: list[tuple[Recipe, str, int, dict[str, tuple[Any, ...]]]] = [
    (recipes.simsiam(), "bilinear", 23, {"view": (2, 224, (0.2, 1), PLAIN, 0.5, 0)}),
    (recipes.moco_v2(), "bilinear", 23, {"view": (2, 224, (0.2, 1), PLAIN, 0.5, 0)}),
    (recipes.simclr(), "bicubic", 23, {"view": (2, 224, (0.08, 1), STRONG, 0.5, 0)}),
    (recipes.moco_v3(), "bilinear", 23, {name: (1, 224, (0.08, 1), MILD, *p) for name, p in TWO_GLOBALS.items()}),
    (recipes.byol(), "bicubic", 23, {name: (1, 224, (0.08, 1), MILD, *p) for name, p in TWO_GLOBALS.items()}),
    (recipes.barlow_twins(), "bicubic", 23, {name: (1, 224, (0.08, 1), MILD, *p) for name, p in TWO_GLOBALS.items()}),
    (recipes.vicreg(), "bicubic", 23, {name: (1, 224, (0.08, 1), MILD, *p) for name, p in TWO_GLOBALS.items()}),
    *(
        (
            preset(variant=variant),
            "bicubic",
            23,
            {
                **{name: (1, 224, scale, MILD, *p) for name, p in TWO_GLOBALS.items()},
                "local": (locals_, 96, (0.05, 0.4), MILD, 0.5, 0),
            },
        )
        for preset, scale in ((recipes.dino, (0.4, 1)), (recipes.ibot, (0.14, 1)))
        for variant, locals_ in (("paper", 8), ("as_run", 10))
    ),
    *(
        (
            recipes.dinov2(variant=variant),
            "bicubic",
            9,
            {
                "global1": (1, 224, (0.32, 1), MILD, blur[0], 0),
                "global2": (1, 224, (0.32, 1), MILD, blur[1], 0.2),
                "local": (8, 96, (0.05, 0.32), MILD, 0.5, 0),
            },
        )
        for variant, blur in (("paper", (1.0, 0.1)), ("as_run", (0.0, 0.9)))
    ),
    (recipes.msn(), "bilinear", 23, {"view": (2, 224, (0.3, 1), STRONG, 0.5, 0), "local": (10, 96, (0.05, 0.3), STRONG, 0.5, 0)}),
]
PRESETS: list[Callable[..., Recipe]] = [
    recipes.simsiam,
    recipes.moco_v2,
    recipes.simclr,
    recipes.moco_v3,
    recipes.byol,
    recipes.barlow_twins,
    recipes.vicreg,
]
PRESETS += [recipes.dino, recipes.ibot, recipes.dinov2, recipes.msn]
SPLIT = [preset for preset in PRESETS if preset not in (recipes.simsiam, recipes.moco_v2, recipes.simclr, recipes.msn)]


@pytest.mark.parametrize(("recipe", "interpolation", "blur_kernel", "roles"), PUBLISHED, ids=[recipe.name for recipe, *_ in PUBLISHED])
def test_presets_hold_the_published_settings(
    recipe: Recipe, interpolation: str, blur_kernel: int, roles: dict[str, tuple[Any, ...]]
) -> None:
    assert (recipe.interpolation, recipe.blur_kernel) == (interpolation, blur_kernel)
    assert (recipe.mean, recipe.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert [role.name for role in recipe.roles] == list(roles)
    for role in recipe.roles:
        candidates, size, scale, jitter, blur, solarize = roles[role.name]
        assert (role.candidates, role.emitted, role.size, role.scale) == (candidates, candidates, size, scale)
        assert role.jitter == ColorJitter(0.8, *jitter)
        assert (role.flip, role.gray, role.blur, role.solarize) == (0.5, 0.2, blur, solarize)
        assert (role.ratio, role.sigma) == ((3 / 4, 4 / 3), (0.1, 2.0))


def test_presets_are_named_after_themselves() -> None:
    for preset in PRESETS:
        recipe = preset()
        assert recipe.name in (preset.__name__, f"{preset.__name__}/paper")
    assert recipes.dino(variant="as_run").name == "dino/as_run"


def test_every_exported_function_is_a_tested_preset() -> None:
    others = {"to_dict", "from_dict", "save", "load", "evaluation"}
    exported = {name for name in recipes.__all__ if inspect.isfunction(getattr(recipes, name))}
    assert exported - others == {preset.__name__ for preset in PRESETS}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.__name__)
def test_more_candidates_leave_the_number_of_emitted_views(preset: Callable[..., Recipe]) -> None:
    published, drawn = preset(), preset(candidates=6)
    assert [role.emitted for role in drawn.roles] == [role.emitted for role in published.roles]
    globals_ = [role for role in drawn.roles if role.name != "local"]
    assert [role.candidates for role in globals_] == ([6] if len(globals_) == 1 else [3, 3])
    assert drawn.num_views == len(drawn.slot_roles) == sum(role.candidates for role in drawn.roles)
    assert [role.name for role in drawn.slot_roles] == [role.name for role in drawn.roles for _ in range(role.candidates)]


@pytest.mark.parametrize("preset", [recipes.simsiam, recipes.moco_v2, recipes.simclr], ids=lambda preset: preset.__name__)
def test_any_number_of_like_views_is_emitted(preset: Callable[..., Recipe]) -> None:
    assert [(role.candidates, role.emitted) for role in preset(candidates=8, views=4).roles] == [(8, 4)]
    assert preset(candidates=8, views=4) == preset(candidates=8).with_roles(emitted=4)
    for views in (1, 9, 2.5, None, True):
        with pytest.raises(RecipeError, match="views must be a whole number from 2 to the number of candidates, 8, got"):
            preset(candidates=8, views=views)


def test_local_views_are_drawn_and_sized_on_their_own() -> None:
    recipe = recipes.dinov2(candidates=4, local_candidates=16, size=448, local_size=98)
    assert [(role.candidates, role.emitted, role.size) for role in recipe.roles] == [(2, 1, 448), (2, 1, 448), (16, 8, 98)]


def test_fields_of_the_recipe_can_be_replaced_in_a_preset() -> None:
    for preset in PRESETS:
        recipe = preset(mean=(0.5, 0.5, 0.5), interpolation="bilinear", blur_kernel=5)
        assert (recipe.mean, recipe.interpolation, recipe.blur_kernel) == ((0.5, 0.5, 0.5), "bilinear", 5)
        assert (recipe.spec.mean, recipe.spec.interpolation, recipe.spec.blur_kernel) == ((0.5, 0.5, 0.5), "bilinear", 5)
        assert recipe.roles == preset().roles


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.__name__)
def test_recipes_are_frozen_hashable_and_picklable(preset: Callable[..., Recipe]) -> None:
    recipe = preset()
    for part, name in ((recipe, "name"), (recipe.roles[0], "scale"), (recipe.roles[0].jitter, "hue")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, name, getattr(part, name))
    assert preset() == recipe and hash(preset()) == hash(recipe)
    assert preset(size=160) != recipe
    restored = pickle.loads(pickle.dumps(recipe))
    assert restored == recipe and hash(restored) == hash(recipe)


def test_lists_become_tuples() -> None:
    role = Role(scale=[0.3, 1], ratio=[1, 2], sigma=[1, 1])  # type: ignore[arg-type]
    recipe = Recipe("mine", [role], mean=[0, 0, 0], std=[1, 1, 1])  # type: ignore[arg-type]
    assert recipe == Recipe(
        "mine", (Role(scale=(0.3, 1.0), ratio=(1.0, 2.0), sigma=(1.0, 1.0)),), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )
    assert isinstance(hash(recipe), int)
    assert all(type(end) is float for end in (*role.scale, *role.ratio, *role.sigma, *recipe.mean, *recipe.std))


def test_with_roles_changes_every_role_and_checks_it() -> None:
    recipe = recipes.dino()
    changed = recipe.with_roles(scale=(0.3, 1), flip=0)
    assert [role.scale for role in changed.roles] == [(0.3, 1.0)] * 3 and [role.flip for role in changed.roles] == [0] * 3
    assert changed.with_roles(flip=0.5) != recipe and recipe == recipes.dino()
    assert [role.blur for role in changed.roles] == [role.blur for role in recipe.roles]
    with pytest.raises(RecipeError, match="scale"):
        recipe.with_roles(scale=(2, 1))


@pytest.mark.parametrize("shared", ["color", "crop"])
def test_one_distribution_that_shares_becomes_two_roles_of_it(shared: str) -> None:
    plain = recipes.simclr(candidates=6, size=160, mean=(0.5, 0.5, 0.5))
    recipe = plain.with_shared(shared)
    role = dataclasses.replace(plain.roles[0], candidates=3, emitted=1, shared=shared)
    assert recipe == dataclasses.replace(plain, roles=[dataclasses.replace(role, name=name) for name in ("global1", "global2")])
    assert recipe.num_views == 6 and recipe != plain and recipe != recipe.with_roles(shared=None)
    assert plain.roles[0].shared is None


@pytest.mark.parametrize("preset", SPLIT, ids=lambda preset: preset.__name__)
def test_two_distributions_stay_and_local_views_share_nothing(preset: Callable[..., Recipe]) -> None:
    plain = preset(candidates=6)
    recipe = plain.with_shared("crop").with_shared("color")
    assert [role.shared for role in recipe.roles] == ["color", "color", None][: len(recipe.roles)]
    assert recipe.with_roles(shared=None) == plain


def test_local_views_keep_their_place() -> None:
    local = Role("local", candidates=5, emitted=3)
    shared = Recipe("r", (local, Role(candidates=4))).with_shared("color")
    assert [role.name for role in shared.roles] == ["local", "global1", "global2"] and shared.roles[0] == local


def test_recipes_that_share_are_hashable_picklable_and_plain() -> None:
    recipe = recipes.simsiam(candidates=4).with_shared("color")
    restored = pickle.loads(pickle.dumps(recipe))
    assert restored == recipe and hash(restored) == hash(recipe)
    assert "shared='color'" in repr(recipe)
    assert json.loads(json.dumps(dataclasses.asdict(recipe)))["roles"][1]["shared"] == "color"


def test_a_role_that_was_pickled_before_roles_could_share_shares_nothing() -> None:
    role = Role()
    old = object.__new__(Role)
    old.__dict__.update({name: value for name, value in vars(role).items() if name != "shared"})
    assert pickle.loads(pickle.dumps(old)) == role


ROLE = Role()
NAN, INF = math.nan, math.inf
INTERVAL_ENDS = [(2, 1), (0.5, 0.2), (0, 1), (-0.1, 1), (NAN, 1), (0.1, NAN), (0.1, INF), (True, 1), ("0.1", 1), (None, 1)]
NOT_PAIRS: list[Any] = [0.5, None, (), (0.1,), (0.1, 0.2, 1), "ab", {0.1: 1, 1: 2}]
NOT_PROBABILITIES: list[Any] = [-0.1, 1.1, NAN, INF, True, False, "0.5", None, 1j, 10**400]
NOT_COUNTS: list[Any] = [0, -1, 2.0, True, NAN, "2", None, 2**16 + 1]

# what is made, the words that the message must hold: the field, what arrived
REFUSED: list[tuple[Callable[[], Any], str, Any]] = [
    *((lambda value=value: Role(scale=value), "scale", value) for value in [*INTERVAL_ENDS, *NOT_PAIRS, (0.5, 1.5)]),
    *((lambda value=value: Role(ratio=value), "ratio", value) for value in [*INTERVAL_ENDS, *NOT_PAIRS]),
    *((lambda value=value: Role(sigma=value), "sigma", value) for value in [*INTERVAL_ENDS, *NOT_PAIRS]),
    *(
        (lambda name=name, value=value: Role(**{name: value}), name, value)
        for name in ("flip", "gray", "blur", "solarize")
        for value in NOT_PROBABILITIES
    ),
    *((lambda value=value: ColorJitter(p=value), "jitter p", value) for value in NOT_PROBABILITIES),
    *(
        (lambda name=name, value=value: ColorJitter(**{name: value}), name, value)
        for name in ("brightness", "contrast", "saturation")
        for value in (-0.1, NAN, INF, True, "0.4", None, (0.6, 1.4))
    ),
    *((lambda value=value: ColorJitter(hue=value), "hue", value) for value in (0.6, -0.1, NAN, INF, True, "0.1", None)),
    *((lambda value=value: Role(candidates=value), "candidates", value) for value in NOT_COUNTS),
    *((lambda value=value: Role(size=value), "size", value) for value in [*NOT_COUNTS, (8, 0), (8,), (2**15 + 1, 8)]),
    *((lambda value=value: Role(candidates=2, emitted=value), "emitted", value) for value in (3, -1, 1.0, True, None)),
    *((lambda value=value: Role(name=value), "name", value) for value in ("", None, 3)),
    *((lambda value=value: Role(jitter=value), "jitter", value) for value in (None, 0.4, (0.8, 0.4, 0.4, 0.4, 0.1))),
    *((lambda value=value: Recipe("r", value), "roles", value) for value in ((), None, ROLE, (ROLE, "view"), ["view"])),
    (lambda: Recipe("r", (ROLE, ROLE)), "different names", ["view", "view"]),
    (lambda: Recipe("r", tuple(Role(name=f"{n}") for n in range(257))), "256 roles", 257),
    *(
        (lambda value=value: Recipe("r", (ROLE,), interpolation=value), "interpolation", value)
        for value in ("nearest", "Bilinear", None, 2)
    ),
    *((lambda value=value: Recipe("r", (ROLE,), blur_kernel=value), "blur_kernel", value) for value in (22, 0, -1, 257, 23.0, True, None)),
    *(
        (lambda name=name, value=value: Recipe("r", (ROLE,), **{name: value}), name, value)
        for name in ("mean", "std")
        for value in (0.5, None, (0.5, 0.5), (0.5,) * 4, (NAN, 1, 1), (True, 1, 1), ("1", 1, 1))
    ),
    *((lambda value=value: Recipe("r", (ROLE,), std=value), "std", value) for value in ((0, 1, 1), (1, 1, -1))),
    *(
        (lambda preset=preset, value=value: preset(value), "candidates", value)
        for preset in PRESETS
        for value in (0, 1, -2, True, 2.0, None, "4")
    ),
    *((lambda preset=preset: preset(3), "even", 3) for preset in SPLIT),
    *(
        (lambda preset=preset: preset(variant="published"), "variant", "published")
        for preset in (recipes.dino, recipes.ibot, recipes.dinov2)
    ),
    (lambda: recipes.dino(local_candidates=4, local_views=8), "emitted", 8),
    (lambda: recipes.dino(local_candidates=-1), "candidates", -1),
    (lambda: recipes.moco_v3(scale=(0, 1)), "scale", (0, 1)),
    (lambda: recipes.simclr(interpolation="lanczos"), "interpolation", "lanczos"),
    *((lambda value=value: Role(emitted=1, shared=value), "shared", value) for value in ("colour", "", "mask", True, ("color", "crop"))),
    *((lambda value=value: recipes.simsiam().with_shared(value), "shared", value) for value in (None, "blur", ["color"])),
    (lambda: recipes.simsiam(4).with_roles(shared="color"), "emitted", 2),
    (lambda: recipes.dino().with_roles(shared="crop"), "emitted", 8),
    (lambda: recipes.simsiam(5).with_shared("color"), "candidates", 5),
    (lambda: Recipe("r", (Role(emitted=1),)).with_shared("color"), "emitted", {"view": 1}),
    (lambda: Recipe("r", (Role(candidates=6, emitted=4),)).with_shared("crop"), "emitted", {"view": 4}),
    (lambda: recipes.byol(4).with_roles(emitted=2).with_shared("crop"), "emitted", {"global1": 2, "global2": 2}),
    (lambda: Recipe("r", (Role("local"),)).with_shared("crop"), "emitted", {}),
    (
        lambda: Recipe("r", tuple(Role(name, emitted=1) for name in "abc")).with_shared("color"),
        "emitted",
        {"a": 1, "b": 1, "c": 1},
    ),
]


@pytest.mark.parametrize(("make", "field", "arrived"), REFUSED)
def test_wrong_values_are_refused_with_a_helpful_message(make: Callable[[], Any], field: str, arrived: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        make()
    message = str(caught.value)
    expected, got, rest = message.partition("got ")
    assert field in expected, message
    assert any(word in expected for word in ("must", "at most")), message
    parts = arrived if isinstance(arrived, (tuple, list)) and len(arrived) > 0 else [arrived]
    assert got and any(repr(part) in rest for part in parts), message
    # what arrived is followed by what the field means or what to do
    assert len(rest.rpartition("; ")[2].split()) >= 3, message


def test_a_refused_recipe_can_be_caught_as_the_packages_error_or_as_a_value_error() -> None:
    assert issubclass(RecipeError, HvsError) and issubclass(RecipeError, ValueError)


@given(lo=st.floats(0, 1, exclude_min=True), hi=st.floats(0, 1, exclude_min=True))
def test_scale_is_accepted_exactly_where_it_is_ordered(lo: float, hi: float) -> None:
    if lo <= hi:
        assert Role(scale=(lo, hi)).scale == (lo, hi)
    else:
        with pytest.raises(RecipeError):
            Role(scale=(lo, hi))


@given(st.floats() | st.integers())
def test_probabilities_are_accepted_exactly_between_0_and_1(value: float) -> None:
    if 0 <= value <= 1:
        assert Role(blur=value).blur == value
    else:
        with pytest.raises(RecipeError):
            Role(blur=value)


@given(st.floats() | st.integers())
def test_hue_is_accepted_exactly_between_0_and_a_half(value: float) -> None:
    if 0 <= value <= 0.5:
        assert ColorJitter(hue=value).hue == value
    else:
        with pytest.raises(RecipeError):
            ColorJitter(hue=value)


@pytest.mark.parametrize("preset", [recipes.dino, recipes.ibot, recipes.dinov2])
def test_the_number_of_local_views_may_be_chosen(preset: Any) -> None:
    def locals_of(**arguments: Any) -> tuple[int, int]:
        role = preset(**arguments).roles[2]
        return role.candidates, role.emitted

    assert locals_of() == (8, 8)
    assert locals_of(local_candidates=16) == (16, 8)
    assert locals_of(local_candidates=3) == (3, 3)
    assert locals_of(local_views=6) == (6, 6)
    assert locals_of(local_candidates=12, local_views=4) == (12, 4)
    assert [role.name for role in preset(local_candidates=0).roles] == ["global1", "global2"]
    with pytest.raises(RecipeError, match="emitted"):
        preset(local_candidates=2, local_views=3)
