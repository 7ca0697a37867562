"""``hvs-data bench``: how fast views come from a source on this machine, and what limits them."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from hvs_data.commands.arguments import positive, whole
from hvs_data.commands.recipes import recipe_of

if TYPE_CHECKING:
    from hvs_data.checking.speed import Stages
    from hvs_data.recipes.spec import Recipe

SAMPLE = 192  # images whose stages are timed
BATCHES = 64  # of an epoch, at least
BUSY = 0.5  # CPUs: as many by others are worth a word

ABOUT = (
    "Time the loader on files of your own: images a second by threads and by candidates, what takes the time of an image, memory, and how "
    "many cores a training needs that takes so many images a second. Files that were read before come from the system's cache."
)
_REMEDIES = {
    "read": "storage: keep the files on a local disk, or in tar shards, which are read in large pieces",
    "decode": "decoding: it grows with the pixels of a file, whatever the size of the views; store smaller images, or pass "
    "scaled_decode=True where they are photographs of many megapixels",
    "render": "rendering: fewer candidates, or candidates that are scored at a smaller size (score_size=, budget=)",
}


def add(bench: argparse.ArgumentParser) -> None:
    bench.set_defaults(run=run)
    bench.add_argument("source", help="a folder, tar shards or Parquet files, as hvs_data.open_source takes them (quote patterns)")
    bench.add_argument("--recipe", default="simsiam", help="name of a preset of hvs_data.recipes, or a recipe file (%(default)s)")
    bench.add_argument("--candidates", metavar="N", nargs="+", type=whole(2), default=[2, 4, 8], help="views an image (2 4 8)")
    bench.add_argument("--threads", metavar="N", nargs="+", type=whole(1), help="to be tried; left out: 1 and a fair share of the CPUs")
    bench.add_argument("--batch-size", metavar="N", type=whole(1), default=64, help="(%(default)s)")
    bench.add_argument("--seconds", metavar="N", type=positive, default=5.0, help="of each measurement (%(default)g)")
    bench.add_argument(
        "--images",
        metavar="N",
        type=positive,
        default=1000.0,
        help="that the training takes in a second, for the cores that feed it (1000)",
    )


def run(options: argparse.Namespace) -> int:
    import hvs_data as hvs
    from hvs_data.checking.speed import at_least, images_per_second, some_of, stages, with_candidates
    from hvs_data.threads.share import default_threads

    source = hvs.open_source(options.source)
    recipe = recipe_of(options.recipe)
    batch_size = options.batch_size
    images = at_least(source, BATCHES * batch_size)
    threads = options.threads or sorted({1, default_threads()})
    print(f"{source!r}, recipe {recipe.name!r}, batches of {batch_size}")
    if (busy := _others_busy()) >= BUSY:
        print(f"other programs kept about {busy:.1f} CPUs busy in the last minute: speeds come out low")
    print(f"{'threads':>8}" + "".join(f"{f'{count} views':>12}" for count in options.candidates) + "   images a second")
    speed = {}
    for number in threads:
        print(f"{number:>8}", end="", flush=True)
        for count in options.candidates:
            make = partial(_loader, images, with_candidates(recipe, count), batch_size, number)
            speed[number, count] = images_per_second(make, options.seconds)
            print(f"{speed[number, count]:>12,.0f}", end="", flush=True)
        print()
    count = options.candidates[-1]
    found = stages(source, with_candidates(recipe, count), some_of(source, SAMPLE))
    _tell(found, count)
    cores = ", ".join(
        f"{-(-options.images * threads[0] // speed[threads[0], count]):,.0f} at {count} views" for count in options.candidates
    )
    print(f"a training that takes {options.images:,.0f} images a second needs so many cores like these: {cores}")
    return 0


def _loader(source: Any, recipe: Recipe, batch_size: int, threads: int) -> Any:
    from hvs_data import ViewLoader

    return ViewLoader(source, recipe, batch_size, num_threads=threads, drop_last=True)


def _tell(found: Stages, candidates: int) -> None:
    parts = ", ".join(f"{name} {getattr(found, name):.2f} ms ({getattr(found, name) / found.whole:.0%})" for name in _REMEDIES)
    print(f"an image of {candidates} views takes of one thread: {parts}")
    print(f"what limits is {_REMEDIES[found.largest]}")
    print(f"memory: {_peak_mib():,.0f} MiB at most, all of the process")


def _others_busy() -> float:
    """CPUs that were busy in the last minute, in the mean; 0 where the system does not tell."""
    import os

    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _peak_mib() -> float:
    """The most memory that this process has had, in MiB."""
    import resource
    import sys

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 2**10
