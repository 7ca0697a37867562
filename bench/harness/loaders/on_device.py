"""Views on a CUDA device, from images in its memory and from files: hvs_data beside other libraries, timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

import hvs_data as hvs
from harness.data import photos
from harness.loaders import gpu_peers
from harness.loaders.contestants import FewPixels
from harness.measuring import machine
from harness.measuring.timing import Spread, alternate, ratio
from hvs_data.recipes.spec import Recipe
from hvs_data.types import ImageBatch, ViewParams

# Cycles for which the device is kept busy while work is queued, tried in turn: at 2 GHz from 8 ms to a second.
HEAD_STARTS = (2**24, 2**27, 2**31)

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
        images: in the device's memory, and of a batch from files.
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
