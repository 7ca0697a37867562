"""``hvs-data pack``: a source into shards that are read faster."""

from __future__ import annotations

import argparse
import os
import re
import time
from functools import partial
from typing import TYPE_CHECKING

from hvs_data.commands.arguments import whole
from hvs_data.commands.progress import Progress
from hvs_data.commands.recipes import recipe_of

if TYPE_CHECKING:
    from hvs_data.packing.images import Form
    from hvs_data.sources.base import Source
    from hvs_data.sources.pack_file import PackFile

BAD = 1
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
CANDIDATES, BATCH, SECONDS = 4, 64, 4.0  # of the loader whose speed is compared
_REMARKS = {
    "kept": "kept their bytes",
    "resized": "were made smaller",
    "turned": "are to be turned by metadata that are not stored; delete the folder and pass --upright to have them turned",
}

ABOUT = (
    "Copy the images of any source into tar shards in WebDataset's layout, with an index beside each: as JPEG files, those that need no "
    "change byte by byte, or raw, as pixels that are read without a decoder (PPM; NPY where they have more bits or other channels). "
    "hvs_data.open_source(OUT) opens them. If it was interrupted, the same command goes on. Exit status 0: all images are packed; 1: some "
    "cannot be used, and OUT/bad.jsonl tells why, as a loader's quarantine; 2: an error."
)


def add(pack: argparse.ArgumentParser) -> None:
    pack.set_defaults(run=run)
    pack.add_argument("source", help="a folder, tar shards or Parquet files, as hvs_data.open_source takes them (quote patterns)")
    pack.add_argument("out", metavar="OUT", help="the folder to write")
    pack.add_argument("--as", dest="form", choices=("jpeg", "raw"), default="jpeg", help="how images are stored (%(default)s)")
    pack.add_argument("--quality", metavar="N", type=_quality, default=90, help="of JPEG files that are made, up to 100 (%(default)s)")
    sides = pack.add_mutually_exclusive_group()
    sides.add_argument("--max-side", metavar="N", type=whole(1), help="longer side in pixels that larger images are brought to")
    sides.add_argument("--short-side", metavar="N", type=whole(1), help="the same of the shorter side")
    pack.add_argument("--upright", action="store_true", help="turn images as their metadata say")
    pack.add_argument("--shard-size", metavar="SIZE", type=size, default="1GB", help="of a shard at most: 500MB, 2GiB (%(default)s)")
    pack.add_argument("--layout", choices=("auto", "classes", "flat"), default="auto", help="how to read a folder (%(default)s)")
    pack.add_argument("--image", metavar="NAME", help="the extension of the images, such as npy, or their column in a table")
    pack.add_argument("--threads", metavar="N", type=whole(1), help="that decode and encode; left out: a fair share of the CPUs")
    pack.add_argument("--recipe", default="simsiam", help="of the loader whose speed is compared afterwards (%(default)s)")
    pack.add_argument("--no-speed", action="store_true", help="leave that out")


def run(options: argparse.Namespace) -> int:
    from hvs_data import HvsError, open_source
    from hvs_data.packing.images import Form, is_deep
    from hvs_data.packing.pack import BAD_FILE, pack
    from hvs_data.threads.share import default_threads

    source = open_source(options.source, image=options.image, **({} if options.layout == "auto" else {"layout": options.layout}))
    deep = is_deep(source)
    if deep and options.form == "jpeg":
        raise HvsError("expected pictures of 8 bits with --as jpeg, got images of other bits or channels; pass --as raw")
    form = Form(options.form, options.quality, options.max_side, options.short_side, options.upright, deep)
    threads = options.threads or default_threads()
    start = time.monotonic()
    with Progress("images", len(source)) as progress:
        packing = pack(source, options.out, form, options.shard_size, threads, progress.update)
    _tell(packing, options.out, form, time.monotonic() - start)
    if not options.no_speed and not deep:
        _tell_speed(source, open_source(options.out), options.recipe)
    if packing.bad:
        print(f"written: {os.path.join(options.out, BAD_FILE)}")
    return BAD if packing.bad else 0


def _tell(packing: PackFile, folder: str, form: Form, seconds: float) -> None:
    shards = packing.shards
    images, size, given = (sum(getattr(shard, name) for shard in shards) for name in ("images", "bytes", "given"))
    print(f"images:   {images:,} packed{f', {len(packing.bad):,} cannot be used' if packing.bad else ''}, in {seconds:.1f} s")
    for name, count in packing.remarks.items():
        print(f"          {count:,} {_REMARKS[name]}")
    print(f"bytes:    {_bytes(given)} before, {_bytes(size)} in {len(shards)} shard{'s' * (len(shards) != 1)} ({size / given:.2f} x)")
    print(f"open by:  hvs_data.open_source({folder!r})")


def _tell_speed(before: Source, after: Source, recipe_name: str) -> None:
    """Images a second of a loader with either source, in turn."""
    from hvs_data import HvsError, ViewLoader
    from hvs_data.checking.speed import images_per_second, with_candidates

    recipe = with_candidates(recipe_of(recipe_name), CANDIDATES)
    batch = min(BATCH, max(1, len(after) // 8))
    try:
        speeds = [
            images_per_second(partial(ViewLoader, source, recipe, batch, drop_last=True, max_bad_share=1.0), SECONDS)
            for source in (before, after)
        ]
    except HvsError as error:
        print(f"speed:    not measured: {error}")
        return
    old, new = speeds
    print(f"speed:    {old:,.0f} images/s before, {new:,.0f} now ({new / old:.1f} x), {CANDIDATES} views of recipe {recipe.name!r}")


def _bytes(size: int) -> str:
    unit, worth = next(((unit, worth) for unit, worth in (("GiB", 2**30), ("MiB", 2**20)) if size >= worth), ("KiB", 2**10))
    return f"{size / worth:,.1f} {unit}"


def size(text: str) -> int:
    """Bytes of a size such as 500MB, 2GiB or 100000."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]I?)?B?\s*", text.upper())
    count = int(float(found[1]) * _UNITS[found[2] or ""]) if found else 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"expected a size such as 500MB or 2GiB, got {text!r}")
    return count


def _quality(text: str) -> int:
    value = whole(1)(text)
    if value > 100:
        raise argparse.ArgumentTypeError(f"expected a quality from 1 to 100, got {text!r}")
    return value
