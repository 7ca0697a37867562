"""The recipe that a command is told: a preset's name, a file, or transforms of the user's own."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hvs_data.recipes.spec import Recipe


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

    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise RecipeError(f"expected transforms as MODULE:OBJECT, such as augmentations:train_transform, got {name!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise RecipeError(f"expected a module with this object, got {name!r} ({error}); name it as Python would import it") from error
    return found if isinstance(found, Recipe) else recipe_from(found)
