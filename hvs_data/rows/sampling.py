"""Recipe and keys in, rows out: draws every parameter of every view, vectorised, without touching pixels.

A row depends on (seed, epoch, sample index, the role and its place in the recipe, number within the role) and on the image's
size, and on nothing else: not on the batch, the worker, the other slots or what was drawn before. The first two candidates of an
image are the same rows whether 2, 4 or 8 are drawn. What the views of a role share is what its first view draws.
"""

# Axes: B image, V view slot.

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvs_data.arguments.sizes import height_width
from hvs_data.arguments.values import whole_number
from hvs_data.errors import RecipeError
from hvs_data.kernels.rows.slots import SLOT, Drawn, Slots
from hvs_data.recipes.spec import CROPS, SHARED, Erasing, Recipe
from hvs_data.rows.dropping import sample_dropped
from hvs_data.rows.masking import sample_masks
from hvs_data.types.rows import LOCAL, ViewParams


def sample_views(recipe: Recipe, *, seed: int, epoch: int, index: Any, height: Any, width: Any) -> ViewParams:
    """Draw the rows of a batch of images.

    Args:
        recipe: the distribution; V is the number of its slots.
        seed: from 0 to 2**64 - 1.
        epoch: from 0 to 2**32 - 1.
        index: integers [B], each image's index in its source, at least 0.
        height, width: integers [B], the images' sizes in pixels, at least 1.

    Returns:
        Rows [B, V].

    Raises:
        RecipeError: a number out of its range, or shapes that differ.
    """
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"recipe must be a Recipe, got {recipe!r}; make one with hvs_data.recipes, such as recipes.simsiam(candidates=4)")
    _check_key("seed", seed, bits=64, remedy="choose one number for a run and keep it to draw the same rows again")
    _check_key("epoch", epoch, bits=32, remedy="count epochs from 0")
    index_B = _whole_numbers("index", index, 0, 2**63 - 1, "each image's place in its source")
    height_B = _whole_numbers("height", height, 1, 2**31 - 1, "each image's height in pixels")
    width_B = _whole_numbers("width", width, 1, 2**31 - 1, "each image's width in pixels")
    if not index_B.shape == height_B.shape == width_B.shape:
        shapes = f"{index_B.shape}, {height_B.shape} and {width_B.shape}"
        raise RecipeError(f"index, height and width must have one shape [B], got {shapes}; pass one number of each for every image")

    from hvs_data.kernels.rows.numba import draw_rows

    rows = draw_rows(slot_table(recipe), int(seed), int(epoch), index_B, height_B, width_B)
    _share(recipe, rows)
    if recipe.masking is not None:
        rows["mask"] = _masks(recipe, int(seed), int(epoch), index_B)
    if any(role.channel_drop > 0 for role in recipe.roles):
        rows["dropped"] = sample_dropped(recipe, seed=int(seed), epoch=int(epoch), index=index_B, slots=slot_table(recipe)["id"])
    roles = recipe.slot_roles
    return ViewParams(
        **{name: torch.from_numpy(value) for name, value in rows.items()},
        role=tuple(role.name for role in roles),
        size=tuple(role.size for role in roles),
        spec=recipe.spec,
        emitted={role.name: role.emitted for role in recipe.roles},
        image_size=torch.from_numpy(np.stack([height_B, width_B], axis=1)),
    )


@lru_cache(maxsize=16)
def slot_table(recipe: Recipe) -> Slots:
    """What the slots of a recipe are drawn from: V records, not to be written to."""
    records = []
    for place, role in enumerate(recipe.roles):
        jitter = role.jitter
        around_1 = [(max(0.0, 1 - half), 1 + half) for half in (jitter.brightness, jitter.contrast, jitter.saturation)]
        hue = (max(-0.5, -jitter.hue), jitter.hue)
        erase = role.erase or Erasing(p=0)
        erased = erase.scale, tuple(np.log(erase.ratio))
        ranges = [role.scale, tuple(np.log(role.ratio)), role.ratio, *around_1, hue, role.sigma, *erased]
        switches = [jitter.p, role.gray, role.flip, role.blur, role.solarize, role.vertical_flip, role.turn, role.posterize, erase.p]
        turn_bits = sum(quarter << 2 * place for place, quarter in enumerate(role.quarters))
        resize = role.resize if isinstance(role.resize, tuple) else (role.resize or 0, 0)
        sizes = [*height_width(role.size), *resize, CROPS.index(role.crop), role.padding]
        whole = [len(role.quarters), turn_bits, role.posterize_bits, *sizes]
        numbers = [*(end for both in ranges for end in both), *switches, *whole]
        records += [((place << 16) | number, *numbers) for number in range(role.candidates)]
    table = np.array(records, dtype=SLOT)
    table.flags.writeable = False
    return table


def _share(recipe: Recipe, rows: Drawn) -> None:
    """Give all views of a role what they share: what its first view has drawn."""
    first = 0
    for role in recipe.roles:
        stop = first + role.candidates
        for name in rows.keys() & (() if role.shared is None else SHARED[role.shared]):
            rows[name][:, first + 1 : stop] = rows[name][:, first : first + 1]
        first = stop


def _check_key(name: str, value: Any, bits: int, remedy: str) -> None:
    number = whole_number(value)
    if number is None or not 0 <= number < 2**bits:
        raise RecipeError(f"{name} must be a whole number from 0 to 2**{bits} - 1, got {value!r}; {remedy}")


def _whole_numbers(name: str, value: Any, least: int, most: int, meaning: str) -> NDArray[np.int64]:
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise RecipeError(f"{name} must be integers of shape [B], got {array.dtype} of shape {array.shape}; it is {meaning}")
    if array.size and not (array.min() >= least and array.max() <= most):
        raise RecipeError(f"{name} must lie between {least} and {most}, got values from {array.min()} to {array.max()}; it is {meaning}")
    return array.astype(np.int64)


def _masks(recipe: Recipe, seed: int, epoch: int, index_B: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool [B, V, G, H]; local views keep all of their patches."""
    assert recipe.masking is not None
    grid, roles = recipe.mask_grid, recipe.slot_roles
    masked = [slot for slot, role in enumerate(roles) if role.name != LOCAL]
    mask_BVGH = np.zeros((len(index_B), len(roles), *height_width(grid)), dtype=bool)
    mask_BVGH[:, masked] = sample_masks(
        recipe.masking, seed=seed, epoch=epoch, index=index_B, slots=slot_table(recipe)["id"][masked], grid=grid
    )  # fmt: skip
    return mask_BVGH
