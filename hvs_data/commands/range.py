"""``hvs-data range``: which values the images of a source have."""

from __future__ import annotations

import argparse

from hvs_data.commands.arguments import whole
from hvs_data.commands.progress import Progress

ABOUT = (
    "Look at some images of a source, of any channels and bits, and print the lines for a recipe: which of their values become 0 and 1 "
    "(two percentiles of every channel), and the mean and standard deviation on that scale. Exit status 0, or 2 after an error."
)


def add(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=run)
    command.add_argument("source", help="a folder, tar shards or Parquet files, as hvs_data.open_source takes them (quote patterns)")
    command.add_argument("--image", metavar="NAME", help="the extension of the images, such as npy, or their column in a table")
    command.add_argument(
        "--percentiles", metavar=("LOW", "HIGH"), nargs=2, type=float, default=(0.1, 99.9), help="that become 0 and 1 (0.1 99.9)"
    )
    command.add_argument("--images", metavar="N", type=whole(1), default=500, help="to look at, spread over the source (%(default)s)")


def run(options: argparse.Namespace) -> int:
    from hvs_data import HvsError, open_source
    from hvs_data.checking.ranges import ranges_of

    low, high = options.percentiles
    if not 0 <= low < high <= 100:
        raise HvsError(f"--percentiles must satisfy 0 <= LOW < HIGH <= 100, got {low:g} {high:g}; they are shares of the values in percent")
    source = open_source(options.source, image=options.image, label=None)
    with Progress("images", min(options.images, len(source))) as progress:
        found = ranges_of(source, options.images, (low, high), progress.update)
    left_out = f"; {found.left_out} of another kind, or that cannot be read, left out" if found.left_out else ""
    print(f"# {found.images} images of {found.dtype}, {len(found.mean)} channels, percentiles {low:g} and {high:g}{left_out}")
    print(found.line())
    return 0
