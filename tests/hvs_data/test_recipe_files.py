"""Recipes that are written come back as they were, and what is wrong in a file is told."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from hvs_data import RecipeError, recipes
from hvs_data.recipes import ColorJitter, Masking, Recipe, presets

PRESETS = [getattr(recipes, name) for name in recipes.__all__ if getattr(getattr(recipes, name), "__module__", "") == presets.__name__]
ODD = [
    recipes.ibot(2, masking=Masking(patch_size=14, ratio=(0.1, 0.2), variance=(0.0, 0.1))),
    recipes.simsiam(4).with_shared("color"),
    replace(recipes.simclr(4), name='quotes " and \\ and \N{GREEK SMALL LETTER PI}').with_roles(jitter=ColorJitter(0.5, hue=1e-7)),
    recipes.simsiam(2).with_roles(size=(96, 160), scale=(1 / 3, 1), erase=recipes.Erasing(0.25, value=(0.5, -1.0, 0.0))),
    recipes.simsiam(2).with_roles(erase=recipes.Erasing(value="noise"), vertical_flip=0.5, turn=0.75, quarters=(2, 3)),
]


@pytest.mark.parametrize("ending", ["json", "toml"])
@pytest.mark.parametrize("recipe", [*(make() for make in PRESETS), *ODD], ids=lambda recipe: recipe.name)
def test_what_is_written_comes_back(recipe: Recipe, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"recipe.{ending}"
    recipes.save(recipe, path)
    assert recipes.load(path) == recipe
    assert recipes.from_dict(recipes.to_dict(recipe)) == recipe
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_both_forms_hold_the_same(tmp_path: Path) -> None:
    for ending in ("json", "toml"):
        recipes.save(ODD[0], tmp_path / f"recipe.{ending}")
    assert json.loads((tmp_path / "recipe.json").read_text()) == tomllib.loads((tmp_path / "recipe.toml").read_text())


def test_what_is_left_out_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "short.toml"
    path.write_text('name = "mine"\n[[roles]]\ncandidates = 4\nsize = [64, 128]\n[roles.jitter]\nhue = 0.2\n')
    (role,) = recipes.load(path).roles
    assert role == replace(recipes.Role(candidates=4, size=(64, 128)), jitter=ColorJitter(hue=0.2))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"name": "x", "roles": [{"sizes": 3}]}', "recipe.json: expected fields of role 0 among name, .*, got sizes"),
        ('{"name": "x", "roles": [{"size": 0}]}', "recipe.json: size must be "),
        ('{"name": "x", "roles": {"size": 3}}', "roles must be a list of dictionaries, one for each role, got dict"),
        ('{"name": "x", "roles": [{"jitter": {"p": 2}}]}', "jitter p must satisfy"),
        ('{"roles": [{}]}', "expected all fields that a recipe must have"),
        ("[]", "expected a recipe as a dictionary, got list"),
        ("{", "recipe.json: "),
        (None, "expected a recipe in .*recipe.json, got No such file"),
    ],
)
def test_what_is_wrong_is_told_with_the_file(text: str | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RecipeError, match=words):
        recipes.load(path)


def test_other_endings_are_refused(tmp_path: Path) -> None:
    for function in (recipes.load, lambda path: recipes.save(ODD[0], path)):
        with pytest.raises(RecipeError, match="ends in .json or .toml, got '.*recipe.yaml'"):
            function(tmp_path / "recipe.yaml")
