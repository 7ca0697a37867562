"""How many images and views a second do loaders deliver on this machine's CPU, from files to float32 batches?

    python bench/loader_cpu.py [--data FOLDER] [--photos FOLDER] [--quick]

hvs_data beside torchvision's and albumentations' DataLoader, webdataset and SPDL, with the same files, recipe, batch size and cores, in
alternation. Files come from the page cache. Takes half an hour on two cores; needs a machine that does nothing else. Where ffcv is
installed, which is built with Debian's libopencv-dev, libturbojpeg0-dev and pkg-config (pip install --no-build-isolation ffcv), it takes
part in crops, flips and jitter.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

import hvs_data as hvs
from harness.data import photos
from harness.loaders import ffcv_peer
from harness.loaders.contestants import CHEAP, DIFFERS, HARD, JPEG_512, OURS, RAW, RAW_512, SCALED, Contestant
from harness.loaders.footprint import footprint
from harness.loaders.stages import stage_table
from harness.measuring import machine, results
from harness.measuring.schema import MIN_REPEATS
from harness.measuring.tests_first import refuse_if_tests_fail
from harness.measuring.timing import Epoch, Spread, alternate, ratio, run_epoch
from harness.reporting.loaders import report

BENCH = "loader_cpu"
TV, ALB, AREA, WDS, SPDL = "torchvision", "albumentations", "albumentations-area", "webdataset", "spdl"
TESTS = (
    "tests/kernels/render",
    "tests/pipelines",
    "tests/hvs_data/rows/test_sampling.py",
    "tests/hvs_data/selection/test_selector.py",
    "tests/hvs_data/loaders",
    "tests/bench/harness/loaders/test_peers.py",
)
PHOTO_BATCH = 8  # of decoded images of 20 megapixels, 64 would be 4 GB


@dataclass(frozen=True)
class Setup:
    """What the command line asked for.

    Attributes:
        size, score_size: sides of the views and of candidates that are only scored.
        batch_size, repeats, seed: as usual.
        batches: least number of batches of one epoch.
        stage_images: images that a measurement of a stage covers.
        quick: leave out what takes long and only try whether everything works.
    """

    size: int = 224
    score_size: int = 112
    batch_size: int = 64
    repeats: int = 5
    seed: int = 0
    batches: int = 16
    stage_images: int = 64
    quick: bool = False

    def epoch_length(self, batch_size: int) -> int:
        """Images of one epoch: enough batches to give every DataLoader worker the same number of them, several times."""
        cores = machine.cores()
        return batch_size * cores * max(-(-self.batches // cores), 1 if self.quick else 4)


@dataclass(frozen=True)
class Group:
    """Contestants that are timed in alternation, by name, on the same files."""

    name: str
    contestants: dict[str, Contestant]
    paths: list[str]


def groups(setup: Setup, paths: list[str], photo_paths: list[str]) -> list[Group]:
    """What is timed beside what."""

    def contestant(loader: str, candidates: int, **changes: Any) -> Contestant:
        made = Contestant(loader, candidates=candidates, size=setup.size, batch_size=setup.batch_size, seed=setup.seed)
        return replace(made, **changes)

    def side_by_side(candidates: int, *loaders: str, **changes: Any) -> dict[str, Contestant]:
        # those with worker processes first: they fork before others start threads
        return {name: contestant(name, candidates, **changes) for name in (*loaders, OURS)}

    def sized(name: str, contestants: dict[str, Contestant], files: list[str]) -> Group:
        length = setup.epoch_length(next(iter(contestants.values())).batch_size)
        return Group(name, contestants, photos.repeated(files, length))

    four = side_by_side(4, TV, ALB, AREA, WDS, SPDL, RAW)
    eight = side_by_side(8, TV, ALB)
    eight[HARD] = contestant(HARD, 8, score_size=setup.score_size)
    eight[CHEAP] = contestant(CHEAP, 8)
    eight["hvs_data, n = 2"] = contestant(OURS, 2)
    ceiling = {name: contestant(name, 4) for name in ("resident", "copied")}
    found = [sized("n = 4", four, paths), sized("n = 8", eight, paths), sized("ceiling, n = 4", ceiling, paths)]
    if not setup.quick:
        found.insert(0, sized("n = 2", side_by_side(2, TV, ALB), paths))
        found.append(sized("DINO 2 + 8", side_by_side(2, TV, ALB, method="dino"), paths))
    if not setup.quick:
        ffcv = tuple(ffcv_peer.DIFFERS) if ffcv_peer.installed() else ()
        for views in (1, 2, 4, 8):
            crops = side_by_side(views, WDS, SPDL, *ffcv, RAW, method="crops")
            found.append(sized(f"crops and flips, n = {views}", crops, paths))
        found.append(sized("crops, flips and jitter, n = 4", side_by_side(4, WDS, SPDL, *ffcv, RAW, method="jitter"), paths))
    if photo_paths:
        large = side_by_side(4, TV, ALB, SCALED, RAW_512, JPEG_512, batch_size=min(PHOTO_BATCH, setup.batch_size))
        found.append(sized("photos, n = 4", large, photo_paths))
    return found


def timed(group: Group, repeats: int) -> dict[str, list[Epoch]]:
    """Epochs of every contestant of a group."""
    loaders = {name: contestant.build(group.paths) for name, contestant in group.contestants.items()}
    runs = {name: (lambda name=name: run_epoch(loaders[name], group.contestants[name].shapes)) for name in loaders}
    return alternate(runs, repeats)


def measurement(group: Group, name: str, epochs: list[Epoch]) -> dict[str, Any]:
    """An entry of ``schema.RESULT``; waits are those of all repeats together."""
    contestant = group.contestants[name]
    speed = Spread(tuple(epoch.images_per_second for epoch in epochs))
    waits = Spread(tuple(wait for epoch in epochs for wait in epoch.waits))
    details = {
        "views_per_second": speed.median * contestant.views_drawn,
        "batch_size": contestant.batch_size,
        "images_per_epoch": epochs[0].images,
        "first_batch_s": median(epoch.first for epoch in epochs),
        "next_batch_p50_ms": waits.median * 1e3,
        "next_batch_p99_ms": waits.quantile(0.99) * 1e3,
        "waits": len(waits.repeats),
    }
    differs = DIFFERS[contestant.loader]
    return {"group": group.name, "name": name, "unit": "images/s", **speed.as_json(), "details": details, "differs": differs}


def footprints(group: Group, setup: Setup) -> list[dict[str, Any]]:
    """Memory, cores and first batch of a group's contestants, where they are wanted."""
    if setup.quick:
        wanted = [OURS] if group.name == "n = 4" else []
    else:
        wanted = list(group.contestants) if group.name in ("n = 4", "n = 8", "photos, n = 4") else []
    return [_footprint(group.name, name, group.contestants[name], group.paths) for name in wanted]


def large_batch(setup: Setup, paths: list[str]) -> list[dict[str, Any]]:
    """The footprint of 8 candidates at the batch size of pretraining, where this machine has the memory for it."""
    import psutil

    contestant = Contestant(OURS, candidates=8, size=setup.size, batch_size=4 * setup.batch_size, seed=setup.seed)
    if setup.quick or psutil.virtual_memory().available < 8 * contestant.batch_bytes:
        return []
    return [_footprint("n = 8", f"{OURS}, batch {contestant.batch_size}", contestant, photos.repeated(paths, 6 * contestant.batch_size))]


def _footprint(group: str, name: str, contestant: Contestant, paths: list[str]) -> dict[str, Any]:
    batch = {"batch_size": contestant.batch_size, "batch_mib": contestant.batch_bytes / 2**20}
    return {"group": group, "name": name, **batch, **footprint(contestant, paths)}


def ratios_of(group: Group, epochs: dict[str, list[Epoch]]) -> list[dict[str, Any]]:
    """Speed of ours over everyone else's, taken round by round."""
    speed = {name: Spread(tuple(epoch.images_per_second for epoch in its)) for name, its in epochs.items()}
    pairs = [
        (ours, peer)
        for ours in (OURS, HARD, CHEAP, SCALED, RAW, RAW_512, JPEG_512)
        if ours in speed
        for peer in speed
        if not peer.startswith(OURS)
    ]
    if HARD in speed:
        pairs.append(("hvs_data, n = 2", HARD))
    return [{"group": group.name, "name": f"{a} / {b}", **ratio(speed[a], speed[b]).as_json()} for a, b in pairs]


@dataclass(frozen=True)
class Target:
    """A number of measuring.md and where it is found.

    Attributes:
        question, wanted: in words.
        group, name: of the ratio.
        bound: what the ratio must reach, or must not exceed if ``at_most``.
        note: how the target was read.
    """

    question: str
    wanted: str
    group: str
    name: str
    bound: float
    at_most: bool = False
    note: str = "median of the rounds' ratios"

    def judged(self, ratios: dict[tuple[str, str], float]) -> dict[str, Any]:
        measured = ratios.get((self.group, self.name))
        reached = None if measured is None else (measured <= self.bound if self.at_most else measured >= self.bound)
        return {"question": self.question, "target": self.wanted, "measured": measured, "reached": reached, "note": self.note}


def targets(gain: float | None) -> list[Target]:
    """The CPU's targets.

    Args:
        gain: ours over torchvision at n = 4, of which the target for large photos is a multiple.
    """
    four, eight = "n = 4 at 224, end to end", "n = 8 at 224, end to end"
    raw = "n = 4 at 224, from raw shards beside JPEG files"
    scored, photo = "8 candidates at 112, the chosen 2 at 224", "photos of 6 to 20 megapixels, n = 4"
    return [
        Target(four, "8 x torchvision", "n = 4", f"{OURS} / {TV}", 8),
        Target(four, "3.5 x albumentations + simplejpeg", "n = 4", f"{OURS} / {ALB}", 3.5),
        Target(raw, "14 x torchvision", "n = 4", f"{RAW} / {TV}", 14),
        Target(raw, "6 x albumentations + simplejpeg", "n = 4", f"{RAW} / {ALB}", 6),
        Target(eight, "10 x torchvision", "n = 8", f"{OURS} / {TV}", 10),
        Target(eight, "5 x albumentations + simplejpeg", "n = 8", f"{OURS} / {ALB}", 5),
        Target(scored, "16 x torchvision's n = 8 at 224", "n = 8", f"{HARD} / {TV}", 16),
        Target(
            photo,
            f"4 x torchvision's n = 4 beyond the gain above = {4 * (gain or 0):.1f} x",
            "photos, n = 4",
            f"{SCALED} / {TV}",
            4 * (gain or 0),
            note="read as 4 times the ratio of the first line; decoded at a fraction of the size where every view is smaller still",
        ),
        Target(
            "large photos packed at a shorter side of 512, n = 4",
            "30 x torchvision on the originals",
            "photos, n = 4",
            f"{RAW_512} / {TV}",
            30,
            note="raw shards; views of the smaller photographs differ from those of the originals, see docs/sources.md",
        ),
        Target(
            "from n = 2 to n = 8, scored at 112",
            "at most 1.5 x the time",
            "n = 8",
            f"hvs_data, n = 2 / {HARD}",
            1.5,
            at_most=True,
            note="n = 2 without selection, n = 8 with selection and the chosen pair rendered again",
        ),
    ]


def judged(ratios: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every target with what was measured."""
    medians = {(entry["group"], entry["name"]): entry["median"] for entry in ratios}
    return [target.judged(medians) for target in targets(medians.get(("n = 4", f"{OURS} / {TV}")))]


def run(setup: Setup, data: str, paths: list[str], photo_paths: list[str]) -> dict[str, Any]:
    """Time everything; the whole result."""
    measurements, ratios, taken = [], [], []
    for group in groups(setup, paths, photo_paths):
        print(f"{group.name}: {', '.join(group.contestants)}", file=sys.stderr, flush=True)
        epochs = timed(group, setup.repeats)
        gc.collect()  # the DataLoaders' workers end with them
        measurements += [measurement(group, name, its) for name, its in epochs.items()]
        ratios += ratios_of(group, epochs)
        taken += footprints(group, setup)
    taken += large_batch(setup, paths)
    print("stages on one thread", file=sys.stderr, flush=True)
    recipe = hvs.recipes.simsiam(candidates=4, size=setup.size)
    measurements += stage_table(paths, recipe, images=setup.stage_images, repeats=setup.repeats, seed=setup.seed)
    described = {data: photos.described(paths), **({"photos": photos.described(photo_paths)} if photo_paths else {})}
    conditions = results.conditions(
        data=described,
        sizes={"view": setup.size, "scored": setup.score_size, "batch": setup.batch_size, "batch_of_photos": PHOTO_BATCH},
        recipe="simsiam, and dino where it says so",
        seeds=[setup.seed],
        repeats=setup.repeats,
        settings={
            "torch threads": str(torch.get_num_threads()),
            "threads": f"{machine.cores()} loader threads of hvs_data; as many worker processes of a DataLoader",
            "files": "from the page cache: a warm-up epoch comes first",
            "output": "float32, normalised, contiguous, on the CPU",
            "hard views": "objective without a model: the negative cosine of 16 pixels a view",
        },
    )
    return {
        "bench": BENCH,
        "question": "images and views a second from files to float32 batches on a CPU, beside other loaders",
        "quick": setup.quick,
        "conditions": conditions,
        "measurements": measurements,
        "ratios": ratios,
        "footprints": taken,
        "targets": judged([] if setup.quick else ratios),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="folder of images of ordinary size; by default the demo's example photos")
    parser.add_argument("--photos", help="folder of large photos, for the lines on them")
    parser.add_argument("--quick", action="store_true", help="try in a minute whether everything works; the numbers mean nothing")
    parser.add_argument("--no-check", action="store_true", help="time even if the tests of what is timed fail")
    parser.add_argument("--cores", type=int, help="use this many cores only")
    parser.add_argument("--batch-size", type=int, help="images of a batch (64)")
    parser.add_argument("--repeats", type=int, help=f"rounds that count (5; at least {MIN_REPEATS} unless --quick)")
    parser.add_argument("--out", type=Path, help="folder for the result (bench/results; with --quick build/bench)")
    options = parser.parse_args(arguments)
    if options.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
        torch.set_num_threads(machine.cores())
    setup = Setup(size=64, score_size=32, batch_size=4, repeats=2, batches=2, stage_images=4, quick=True) if options.quick else Setup()
    setup = replace(setup, batch_size=options.batch_size or setup.batch_size, repeats=options.repeats or setup.repeats)
    if not options.no_check:
        refuse_if_tests_fail(TESTS)
    photo_paths = photos.photo_paths(options.photos) if options.photos else []
    with photos.photographs(options.data) as (name, paths):
        result = run(setup, name, paths, photo_paths)
    path = results.write_result(result, options.out)
    print(report(result))
    print(f"\nwritten to {os.path.relpath(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
