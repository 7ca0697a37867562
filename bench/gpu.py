"""Views a second on a CUDA device, from images that lie there and from files: how many, and how far from its memory's speed?

    python bench/gpu.py [--data FOLDER] [--quick]

First the tests that need CUDA, then hvs_data beside Kornia (eager, compiled), torchvision v2 and triton-augment on images that lie on the
device, and beside DALI from files. What is not installed or fails is left out, and the result says so and why. Where there is no CUDA
device, this says so and does nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hvs_data as hvs
from harness.data import photos
from harness.loaders import gpu_peers
from harness.loaders.contestants import FewPixels
from harness.measuring import machine, results
from harness.measuring.schema import MIN_REPEATS, RESULT, ResultError, Table, check_form, text
from harness.measuring.tests_first import refuse_if_tests_fail
from harness.measuring.timing import Spread, alternate, ratio
from harness.reporting.tables import figure, table
from hvs_data.recipes.spec import Recipe
from hvs_data.types import ImageBatch, ViewParams

BENCH = "gpu"
TESTS = ("-m", "cuda", "tests")
NO_DEVICE = "no CUDA device was found on this machine: nothing was tested, nothing was measured and nothing was written"
# Cycles for which the device is kept busy while work is queued, tried in turn: at 2 GHz from 8 ms to a second.
HEAD_STARTS = (2**24, 2**27, 2**31)
PACKAGES = ("triton", "kornia", "triton-augment", "nvidia-dali-cuda120", "nvidia-dali-cuda130")
FORM = {**{key: form for key, form in RESULT.items() if key != "footprints"}, "not_run": Table(text, least=0)}

OURS, DRAWN, REFERENCE = "hvs_data", "hvs_data, rows drawn too", "hvs_data, engine reference"
ALONE = "hvs_data, the device's part alone"
HARD = "hvs_data, hardest pair of candidates scored at half the side"
DIFFERS = {
    OURS: "nothing: rows are drawn before",
    DRAWN: "nothing: rows are drawn on the CPU within the time",
    ALONE: "the device's time for work that was queued before it began: without that of the CPU, which makes tables and launches",
    REFERENCE: "nothing: plain PyTorch in float32, one view after another",
    HARD: "gives a pair, chosen by an objective that costs nothing",
    **gpu_peers.DIFFERS,
}


@dataclass(frozen=True)
class Setup:
    """What the command line asked for.

    Attributes:
        size: side of the views.
        images: that lie on the device, and of a batch from files.
        batches: of one epoch from files.
        candidates: numbers of views of an image, one measurement each.
        repeats, seed: as usual.
        quick: only try whether everything works.
    """

    size: int = 224
    images: int = 128
    batches: int = 16
    candidates: tuple[int, ...] = (2, 4, 8)
    repeats: int = 5
    seed: int = 0
    quick: bool = False

    def recipe(self, candidates: int) -> Recipe:
        return hvs.recipes.simsiam(candidates, size=self.size)


class Bench:
    """Everything that is measured in one run, and what could not be."""

    def __init__(self, setup: Setup, device: torch.device):
        self.setup, self.device = setup, device
        self.measurements: list[dict[str, Any]] = []
        self.ratios: list[dict[str, Any]] = []
        self.not_run: dict[str, str] = {}

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, function: Callable[[], Any]) -> float:
        """Wall-clock time of a call and of all that it leaves to the device."""
        self.synchronize()
        start = time.perf_counter()
        kept = function()
        self.synchronize()
        del kept
        return time.perf_counter() - start

    def device_seconds(self, function: Callable[[], Any]) -> float:
        """Time that the device takes for a call's work if all of it is queued before the first begins."""
        if self.device.type != "cuda":
            return self.seconds(function)
        for cycles in HEAD_STARTS:
            self.synchronize()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(cycles)
            begin.record()
            kept = function()
            end.record()
            queued_ahead = not begin.query()
            end.synchronize()
            del kept
            if queued_ahead:
                return 1e-3 * begin.elapsed_time(end)
        raise RuntimeError(f"expected a call's work to be queued within {HEAD_STARTS[-1]} cycles of the device, it was not")

    def built(self, makers: dict[str, Callable[[], Callable[[], Any]]], group: str) -> dict[str, Callable[[], Any]]:
        """Contestants that can be made and run once; why the others cannot is noted."""
        able = {}
        for name, make in makers.items():
            try:
                contestant = make()
                contestant()
                self.synchronize()
            except Exception as error:
                # paths of this machine are nobody's business
                reason = " ".join(word for word in f"{type(error).__name__}: {error}".split()[:40] if "/" not in word)
                self.not_run[f"{group}: {name}"] = reason
            else:
                able[name] = contestant
        return able

    def measure(
        self,
        group: str,
        makers: dict[str, Callable[[], Callable[[], Any]]],
        count: int,
        unit: str,
        bound: float | None = None,
        mine: str = OURS,
    ) -> None:
        """Time contestants in alternation.

        Args:
            makers: functions that make them, by name; ``mine`` is compared with each of the others.
            count: of ``unit`` in a call.
            bound: the most that the device's memory lets through a second; None where that is not known.
        """
        able = self.built(makers, group)
        if not able:
            return
        clocks = {name: self.device_seconds if name == ALONE else self.seconds for name in able}
        times = alternate({name: partial(clocks[name], function) for name, function in able.items()}, self.setup.repeats)
        speeds = {name: Spread(tuple(count / second for second in seconds)) for name, seconds in times.items()}
        for name, speed in speeds.items():
            details = {"bound": bound, "share_of_bound": None if bound is None else speed.median / bound}
            entry = {"group": group, "name": name, "unit": f"{unit}/s", **speed.as_json(), "details": details, "differs": DIFFERS[name]}
            self.measurements.append(entry)
            if mine in speeds and name not in (mine, ALONE):
                self.ratios.append({"group": group, "name": f"{mine} / {name}", **ratio(speeds[mine], speed).as_json()})


# --- views from resident images ----------------------------------------------------------------------------------------


def bytes_per_second(bench: Bench) -> float:
    """What a large copy within the device's memory reads and writes."""
    source = torch.ones(2**24 if bench.setup.quick else 2**30, dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    return 2 * source.numel() / min(bench.seconds(lambda: target.copy_(source)) for _ in range(9))


def views_bound(rows: ViewParams, size: int, dtype: torch.dtype, bandwidth: float) -> float:
    """Views a second if each crop is read once, each output written once, and nothing else takes time."""
    read = 3 * float((rows.box[..., 2].double() * rows.box[..., 3]).sum())
    views = rows.batch_size * rows.num_views
    return bandwidth * views / (read + views * 3 * size**2 * dtype.itemsize)


def rows_for(images: ImageBatch, recipe: Recipe, seed: int) -> ViewParams:
    return hvs.sample_views(recipe, seed=seed, epoch=0, index=torch.arange(len(images)), height=images.height, width=images.width)


def resident(bench: Bench, images: ImageBatch, bandwidth: float, dtype: torch.dtype = torch.bfloat16) -> None:
    """Views of images of their own sizes, by the whole recipe."""
    setup = bench.setup
    for candidates in setup.candidates:
        recipe = setup.recipe(candidates)
        rows = rows_for(images, recipe, setup.seed)

        def drawn(recipe: Recipe = recipe) -> Tensor:
            return hvs.render(images, rows_for(images, recipe, setup.seed), engine="fused", dtype=dtype)

        makers: dict[str, Callable[[], Callable[[], Any]]] = {
            OURS: lambda rows=rows: partial(hvs.render, images, rows, engine="fused", dtype=dtype),
            ALONE: lambda rows=rows: partial(hvs.render, images, rows, engine="fused", dtype=dtype),
            DRAWN: lambda drawn=drawn: drawn,
            "torchvision v2": partial(gpu_peers.torchvision_views, images, recipe, dtype),
            "kornia": partial(gpu_peers.kornia_views, images, recipe, dtype),
        }
        if candidates == 4:
            makers["kornia, compiled"] = partial(gpu_peers.kornia_views, images, recipe, dtype, compiled=True)
            makers[REFERENCE] = lambda rows=rows: partial(hvs.render, images, rows, engine="reference", dtype=dtype)
        bound = views_bound(rows, setup.size, dtype, bandwidth)
        bench.measure(f"from resident uint8, n = {candidates}", makers, len(images) * candidates, "views", bound)


def of_triton_augment(bench: Bench, images: ImageBatch, bandwidth: float, dtype: torch.dtype = torch.bfloat16) -> None:
    """What triton-augment has: crops without resize from images of one size, and no hue and no blur."""
    setup = bench.setup
    side, candidates = setup.size * 8 // 7, 4
    plain = setup.recipe(candidates)
    recipe = plain.with_roles(jitter=replace(plain.roles[0].jitter, p=1.0, hue=0.0), blur=0.0)
    square = rows_for(images, hvs.recipes.simsiam(2, size=side), setup.seed).views([0])
    squares = hvs.render(images, square, dtype=torch.uint8)[:, 0].permute(0, 2, 3, 1).contiguous()
    batch = ImageBatch(list(squares))
    rows = rows_for(batch, recipe, setup.seed)
    corner = (rows.box[..., :2].double() / side * (side - setup.size)).int()
    rows = replace(rows, box=torch.cat([corner, torch.full_like(corner, setup.size)], dim=-1))
    floats = squares.permute(0, 3, 1, 2).float() / 255
    makers: dict[str, Callable[[], Callable[[], Any]]] = {
        OURS: lambda: partial(hvs.render, batch, rows, engine="fused", dtype=dtype),
        "triton-augment": partial(gpu_peers.triton_augment_views, floats, recipe, dtype),
    }
    bound = views_bound(rows, setup.size, dtype, bandwidth)
    bench.measure("operations of triton-augment, n = 4", makers, len(images) * candidates, "views", bound)


# --- from files --------------------------------------------------------------------------------------------------------


def from_files(bench: Bench, paths: Sequence[str]) -> None:
    """Whole loaders: from files in the page cache to views on the device."""
    setup, threads = bench.setup, machine.cores()
    files = photos.repeated(list(paths), setup.images * setup.batches)

    def epoch(loader: Iterable[Any]) -> None:
        for views, _ in loader:
            # touched, as a model would, on the consumer's stream
            views[0].flatten()[0] + 1

    for candidates in setup.candidates:
        recipe = setup.recipe(candidates)
        options = {"device": bench.device, "seed": setup.seed, "dtype": torch.float16, "num_threads": threads, "drop_last": True}

        def ours(recipe: Recipe = recipe, options: Any = options) -> Callable[[], Any]:
            return partial(epoch, hvs.ViewLoader(files, recipe, setup.images, **options))

        def hard(recipe: Recipe = recipe, options: Any = options) -> Callable[[], Any]:
            selector = hvs.HardViewSelector(FewPixels(), score_size=setup.size // 2)
            return partial(epoch, hvs.HardViewLoader(hvs.ViewLoader(files, recipe, setup.images, **options), selector))

        def dali(recipe: Recipe = recipe) -> Callable[[], Any]:
            kind = "gpu" if bench.device.type == "cuda" else "cpu"
            return partial(epoch, gpu_peers.DaliLoader(files, recipe, setup.images, threads, setup.seed, kind))

        makers: dict[str, Callable[[], Callable[[], Any]]] = {OURS: ours, "DALI": dali}
        if candidates > 2:
            makers[HARD] = hard
        bench.measure(f"from files, n = {candidates}", makers, len(files), "images")


# --- the result --------------------------------------------------------------------------------------------------------

TARGETS = [
    ("40 % of the bytes-over-bandwidth bound", "from resident uint8, n = 4", None, 0.4),
    ("50 x Kornia eager", "from resident uint8, n = 4", "kornia", 50.0),
    ("3 x triton-augment on its operations", "operations of triton-augment, n = 4", "triton-augment", 3.0),
    ("2 x DALI's own pipeline, n = 4", "from files, n = 4", "DALI", 2.0),
    ("4 x DALI's own pipeline, n = 8", "from files, n = 8", "DALI", 4.0),
]


def judged(bench: Bench) -> list[dict[str, Any]]:
    """Each target of the project beside what was measured; a quick run measures nothing."""
    judged = []
    for target, group, rival, wanted in TARGETS:
        if rival is None:
            found = [entry["details"]["share_of_bound"] for entry in bench.measurements if (entry["group"], entry["name"]) == (group, OURS)]
        else:
            found = [entry["median"] for entry in bench.ratios if (entry["group"], entry["name"]) == (group, f"{OURS} / {rival}")]
        measured = None if bench.setup.quick or not found else found[0]
        note = bench.not_run.get(f"{group}: {rival or OURS}", "quick run" if bench.setup.quick else "median of ratios round by round")
        reached = None if measured is None else measured >= wanted
        judged.append({"question": group, "target": target, "measured": measured, "reached": reached, "note": note})
    return judged


def run(setup: Setup, device: torch.device, data_name: str, paths: list[str]) -> dict[str, Any]:
    """Measure all there is to measure on a device."""
    bench = Bench(setup, device)
    images = hvs.decode([Path(path).read_bytes() for path in photos.repeated(paths, setup.images)], device=device)
    bandwidth = bytes_per_second(bench)
    resident(bench, images, bandwidth)
    of_triton_augment(bench, images, bandwidth)
    from_files(bench, paths)
    if not bench.measurements:
        raise SystemExit(f"nothing could be run: {bench.not_run}")
    conditions = results.conditions(
        data={data_name: photos.described(paths)},
        sizes={"view": setup.size, "batch": setup.images, "batches": setup.batches},
        recipe="simsiam",
        seeds=[setup.seed],
        repeats=setup.repeats,
        settings={
            "bandwidth": f"{bandwidth / 1e9:.0f} GB/s read and written by a large copy within the device's memory",
            "bound": "views a second if each crop is read once, each output written once, at that bandwidth",
            "output": "bfloat16 from resident images, float16 from files; normalised, contiguous, on the device",
            "threads": f"{machine.cores()} that decode",
            "tests": "those marked cuda passed before" if device.type == "cuda" else "none",
        },
    )
    conditions["versions"] |= {"cuda": str(torch.version.cuda), **machine.versions(PACKAGES)}
    conditions["device"] = _device(device)
    return {
        "bench": BENCH,
        "question": "views a second on a CUDA device, from resident images and from files, beside other libraries and the memory's speed",
        "quick": setup.quick,
        "conditions": conditions,
        "measurements": bench.measurements,
        "ratios": bench.ratios,
        "targets": judged(bench),
        "not_run": bench.not_run,
    }


def check_gpu_result(result: dict[str, Any]) -> None:
    """Raises ResultError for a result that is not complete."""
    check_form(result, FORM)
    if result["conditions"]["repeats"] < MIN_REPEATS and not result["quick"]:
        raise ResultError(f"expected at least {MIN_REPEATS} repeats, got {result['conditions']['repeats']}")


def _device(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {"kind": device.type, "name": machine.cpu_model(), "cores": machine.cores(), "memory_gib": 0}
    its = torch.cuda.get_device_properties(device)
    return {"kind": "cuda", "name": its.name, "cores": machine.cores(), "memory_gib": round(its.total_memory / 2**30, 1)}


def report(result: dict[str, Any]) -> str:
    """The result in tables."""
    speeds = [
        [f"{entry['group']}: {entry['name']}", figure(entry["median"]), entry["unit"], figure(entry["details"]["share_of_bound"])]
        for entry in result["measurements"]
    ]
    parts = [
        table(["measured", "median", "", "of bound"], speeds),
        table(
            ["ratio, round by round", "median"],
            [[f"{entry['group']}: {entry['name']}", figure(entry["median"])] for entry in result["ratios"]],
        ),
        table(["target", "measured"], [[target["target"], figure(target["measured"])] for target in result["targets"]]),
        *(f"not run: {name}: {reason}" for name, reason in result["not_run"].items()),
    ]
    return "\n\n".join(["QUICK RUN: the numbers mean nothing.", *parts] if result["quick"] else parts)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="folder of photos of ordinary size; by default the demo's example photos")
    parser.add_argument("--quick", action="store_true", help="try in a minute whether everything works; the numbers mean nothing")
    parser.add_argument("--no-check", action="store_true", help="time even if the tests on the device fail")
    parser.add_argument("--images", type=int, help="images on the device, and of a batch (128)")
    parser.add_argument("--out", type=Path, help="folder for the result (bench/results; with --quick build/bench)")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print(NO_DEVICE)
        return 0
    setup = Setup(size=64, images=8, batches=2, candidates=(2, 4), repeats=2, quick=True) if options.quick else Setup()
    setup = replace(setup, images=options.images or setup.images)
    if not options.no_check:
        refuse_if_tests_fail(TESTS)
    with photos.photographs(options.data) as (name, paths):
        result = run(setup, torch.device("cuda", torch.cuda.current_device()), name, paths)
    path = results.write_result(result, options.out, check_gpu_result)
    print(report(result))
    print(f"\nwritten to {os.path.relpath(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
