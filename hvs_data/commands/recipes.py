"""What a command is told by name: a recipe's preset or file, and objects in modules of the user's own."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hvs_data.errors import HvsError
    from hvs_data.recipes.spec import Recipe
    from hvs_data.selection.selector import HardViewSelector


def recipe_of(name: str) -> Recipe:
    """A published method's recipe by its name, or the recipe in a file.

    Raises:
        RecipeError: another name, or a file without a recipe.
    """
    from hvs_data import RecipeError, recipes
    from hvs_data.recipes import presets

    if name.lower().endswith((".json", ".toml")):
        return recipes.load(name)
    known = [its for its in recipes.__all__ if getattr(getattr(recipes, its), "__module__", "") == presets.__name__]
    if name not in known:
        raise RecipeError(f"expected a recipe among {', '.join(known)}, or a file that ends in .json or .toml, got {name!r}")
    return getattr(recipes, name)()


def converted(name: str) -> Recipe:
    """A recipe, or what ``recipe_from`` makes of transforms, that a module holds, also one in the working directory.

    Args:
        name: such as "augmentations:train_transform".

    Raises:
        RecipeError: another form, a module that cannot be imported, no such object, or transforms that are no recipe.
    """
    from hvs_data import RecipeError, recipe_from
    from hvs_data.recipes.spec import Recipe

    found = _found("transforms", "augmentations:train_transform", name, RecipeError)
    return found if isinstance(found, Recipe) else recipe_from(found)


def chooser(name: str, checkpoint: str | None) -> HardViewSelector:
    """What chooses among views: a selector, or the hardest pairs of an objective, that a module holds, or that a function in it returns.

    Args:
        name: such as "training:objective". A function is called with what the checkpoint holds, or with nothing without one.
        checkpoint: a file of ``torch.save``, read without running code from it; None for none.

    Raises:
        SelectionError: another form, no such object, something else in its place, or a checkpoint that cannot be read.
    """
    import torch

    from hvs_data import HardViewSelector, Objective, SelectionError

    found = _found("an objective", "training:objective", name, SelectionError)
    if not isinstance(found, (Objective, HardViewSelector)) and callable(found):
        try:
            given = [] if checkpoint is None else [torch.load(checkpoint, map_location="cpu", weights_only=True)]
        except (OSError, RuntimeError, pickle.UnpicklingError) as error:
            raise SelectionError(f"expected a file of torch.save in {checkpoint}, got {error}; save a state_dict") from error
        found = found(*given)
    elif checkpoint is not None:
        raise SelectionError(f"expected {name} to be a function of the checkpoint with --checkpoint, got {type(found).__name__}")
    if isinstance(found, Objective):
        return HardViewSelector(found)
    if not isinstance(found, HardViewSelector):
        raise SelectionError(
            f"expected an hvs_data.Objective, a HardViewSelector or a function that returns one, got {type(found).__name__}"
        )
    return found


def _found(what: str, example: str, name: str, wrong: type[HvsError]) -> Any:
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise wrong(f"expected {what} as MODULE:OBJECT, such as {example}, got {name!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise wrong(f"expected a module with this object, got {name!r} ({error}); name it as Python would import it") from error
