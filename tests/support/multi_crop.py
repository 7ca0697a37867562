"""Candidates of several roles, and every combination of them written out."""

from dataclasses import replace
from itertools import combinations, product

import torch
from torch import Tensor

import hvs_data as hvs
from hvs_data.objectives import AdditiveObjective
from hvs_data.recipes import Recipe

GLOBAL_SIDE, LOCAL_SIDE = 8, 4
ROLES = ("global1", "global1", "global2", "global2")


def make_recipe(
    roles=("global1", "global1", "global2", "global2"), locals_=7, chosen=3, sides=(GLOBAL_SIDE, LOCAL_SIDE), **recipe
) -> Recipe:
    """The roles' candidates, one view of each of two roles or two of one chosen, and local candidates of which some are chosen."""
    names = list(dict.fromkeys(roles))
    like = hvs.recipes.Role(size=sides[0])
    parts = []
    for name in names:
        candidates = list(roles).count(name)
        parts.append(replace(like, name=name, candidates=candidates, emitted=min(candidates, 2 // len(names))))
    if locals_:
        parts.append(hvs.recipes.Role("local", candidates=locals_, emitted=chosen, size=sides[1]))
    return Recipe("multi-crop", tuple(parts), **recipe)


def make_rows(recipe: Recipe, images: int, seed=0) -> hvs.ViewParams:
    return hvs.sample_views(recipe, seed=seed, epoch=0, index=range(images), height=[40] * images, width=[50] * images)


def make_pixels(recipe: Recipe, images: int, seed=0, dtype=torch.float32) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    sizes = [role.size for role in recipe.slot_roles]
    return [torch.randn(images, 3, side, side, generator=draw, dtype=torch.float64).to(dtype) for side in sizes]


def every_combination(recipe: Recipe) -> list[tuple[int, ...]]:
    """Slots of all combinations that may be chosen, those with the first pair first, then those with the first local views."""
    slots_of: dict[str, list[int]] = {}
    for slot, role in enumerate(recipe.slot_roles):
        slots_of.setdefault(role.name, []).append(slot)
    emitted = {role.name: role.emitted for role in recipe.roles}
    local = slots_of.pop("local", [])
    (first, *second) = slots_of.values()
    pairs = product(first, *second) if second else combinations(first, 2)
    return [(*pair, *rest) for pair in pairs for rest in combinations(local, emitted.get("local", 0))]


def sum_of_terms(table_TS: Tensor | list[list[float]], combination: tuple[int, ...], recipe: Recipe) -> float:
    """A combination's loss from one image's table, as the definition has it: global views are the table's first columns."""
    table_TS = table_TS.tolist() if isinstance(table_TS, Tensor) else table_TS
    order = [slot for slot, role in enumerate(recipe.slot_roles) if role.name != "local"]
    order += [slot for slot, role in enumerate(recipe.slot_roles) if role.name == "local"]
    place = [order.index(slot) for slot in combination]
    return sum(table_TS[t][s] for t in place[:2] for s in place)


class Terms(AdditiveObjective):
    """A table of terms as given, whatever the views are."""

    def __init__(self, table_BTS: Tensor):
        self.table = table_BTS
        self.next_image = 0

    def encode(self, pixels):
        return pixels.flatten(1), pixels.flatten(1)

    def encode_local(self, pixels):
        return pixels.flatten(1)

    def term_table(self, teacher, student, local, views):
        """The rows of the images of this part."""
        first, stop = self.next_image, self.next_image + len(teacher)
        self.next_image = stop % len(self.table)
        return self.table[first:stop]
