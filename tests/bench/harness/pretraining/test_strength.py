"""Views made gentler or stronger: the changes that a strength names, and no others."""

from __future__ import annotations

from dataclasses import replace

import hvs_data as hvs
from harness.pretraining.strength import Strength
from hvs_data.recipes.spec import ColorJitter


def test_no_changes_leave_a_recipe_as_it_is() -> None:
    recipe = hvs.recipes.simclr(4, 32)
    assert Strength().of(recipe) == recipe
    assert Strength().as_json() == {} and Strength().in_words() == ""


def test_crops_and_colours_are_those_of_the_first_look() -> None:
    published = hvs.recipes.simclr(4, 32).with_roles(blur=0.0, jitter=ColorJitter())
    (role,) = Strength(0.6, 0.5).of(published).roles
    # crops .6-1, jitter .2 .2 .2 .05 (p .8), grey .1
    assert role == replace(published.roles[0], scale=(0.6, 1.0), jitter=ColorJitter(0.8, 0.2, 0.2, 0.2, 0.05), gray=0.1)
    (role,) = Strength(color=2.0).of(published).roles
    # SimCLR's colours of ImageNet; grey is no more probable than published
    assert role.jitter == ColorJitter(0.8, 0.8, 0.8, 0.8, 0.2) and role.gray == 0.2


def test_local_views_keep_their_crops() -> None:
    published = hvs.recipes.dino(4, 8)
    changed = Strength(crop=0.5).of(published)
    for old, new in zip(published.roles, changed.roles, strict=True):
        assert new.scale == (old.scale if old.name == "local" else (0.5, 1.0))
