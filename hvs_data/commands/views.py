"""``hvs-data views``: what the views of a source will look like."""

from __future__ import annotations

import argparse

from hvs_data.commands.arguments import whole
from hvs_data.commands.recipes import chooser, converted, recipe_of

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
    views.add_argument(
        "--objective", metavar="MODULE:OBJECT", help="also mark the views that are hardest: an objective or a selector in a module of yours"
    )
    views.add_argument("--checkpoint", metavar="FILE", help="of torch.save; OBJECT is then a function of what it holds")
    views.add_argument("--images", metavar="N", type=whole(1), default=8, help="spread evenly over the source (%(default)s)")
    views.add_argument("--seed", metavar="N", type=whole(0), default=0, help="of the views (%(default)s)")
    views.add_argument("--report", metavar="FILE", default="views.html", help="the HTML file to write (%(default)s)")


def run(options: argparse.Namespace) -> int:
    from hvs_data import SelectionError, open_source
    from hvs_data.checking.scan import write_whole
    from hvs_data.checking.sheet import sheet
    from hvs_data.checking.speed import some_of, with_candidates

    recipe = recipe_of(options.recipe) if options.transforms is None else converted(options.transforms)
    if options.candidates is not None:
        recipe = with_candidates(recipe, options.candidates)
    if options.checkpoint is not None and options.objective is None:
        raise SelectionError("--checkpoint goes with --objective MODULE:OBJECT, a function that makes an objective of what it holds")
    selector = None if options.objective is None else chooser(options.objective, options.checkpoint)
    source = open_source(options.source)
    write_whole(options.report, sheet(source, recipe, some_of(source, options.images), options.seed, options.source, selector))
    print(f"written: {options.report}")
    return 0
