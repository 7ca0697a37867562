"""``hvs-data views``: what the views of a source will look like."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING

from hvs_data.commands.arguments import whole
from hvs_data.commands.bench import recipe_of

if TYPE_CHECKING:
    from hvs_data.recipes.spec import Recipe

ABOUT = (
    "Write a page of images with the boxes of their views and the views themselves, as a trainer will see them: of a published recipe, or "
    "of transforms of your own, which are converted as hvs_data.recipe_from does."
)


def add(views: argparse.ArgumentParser) -> None:
    views.set_defaults(run=run)
    views.add_argument("source", help="a folder, tar shards or Parquet files, as hvs_data.open_source takes them (quote patterns)")
    views.add_argument("--recipe", default="simsiam", help="name of a preset of hvs_data.recipes, or a recipe file (%(default)s)")
    views.add_argument("--transforms", metavar="MODULE:OBJECT", help="in place of a recipe: transforms, or a recipe, in a module of yours")
    views.add_argument("--candidates", metavar="N", type=whole(2), help="views an image of the roles that make the pair")
    views.add_argument("--images", metavar="N", type=whole(1), default=8, help="spread evenly over the source (%(default)s)")
    views.add_argument("--seed", metavar="N", type=whole(0), default=0, help="of the views (%(default)s)")
    views.add_argument("--report", metavar="FILE", default="views.html", help="the HTML file to write (%(default)s)")


def run(options: argparse.Namespace) -> int:
    from hvs_data import open_source
    from hvs_data.checking.scan import write_whole
    from hvs_data.checking.sheet import sheet
    from hvs_data.checking.speed import some_of, with_candidates

    recipe = recipe_of(options.recipe) if options.transforms is None else converted(options.transforms)
    if options.candidates is not None:
        recipe = with_candidates(recipe, options.candidates)
    source = open_source(options.source)
    write_whole(options.report, sheet(source, recipe, some_of(source, options.images), options.seed, options.source))
    print(f"written: {options.report}")
    return 0


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
