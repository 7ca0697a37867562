"""What scoring and whole training steps take on a device, with a network of the published size."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import hvs_data as hvs
from harness.data import photos
from harness.device.bench import bench_on
from harness.device.resident import rows_for
from harness.measuring import machine
from harness.measuring.staged import Finding
from harness.measuring.timing import Spread
from harness.pretraining import methods
from harness.pretraining.steps import LEAD, StepTimes, cost, side_by_side
from harness.pretraining.training import Setup
from harness.selection import bench as selection
from harness.selection.capture import usable
from harness.selection.settings import EXACT, settings
from hvs_data.sources.folder import open_paths

METHOD = "simsiam"
PLAIN = "as it is"
WAYS: dict[str, Any] = {PLAIN: False, "compiled": True, "compiled, in CUDA graphs": "reduce-overhead"}
# nothing is compiled for a CPU, which takes longer than all else
REHEARSED: dict[str, Any] = {PLAIN: False, "compiled": {"backend": "eager"}}
SETTINGS = (EXACT, "balanced, 8 views", "cheap, 8 views")
AMOUNTS = selection.Amounts(trained=2, timed=8, repeats=5)
QUICK = replace(AMOUNTS, timed=2, repeats=2)


def scoring(data: str | None, device: str, quick: bool) -> Iterator[Finding]:
    """The hardest pair of four views that lie on the device, with the scoring forward as it is and compiled."""
    bench = bench_on(device, quick)
    method = methods.build(METHOD, _sizes(quick), bench.setup.seed)
    method.model.to(bench.device)
    recipe = method.recipe(4)
    with photos.photographs(data) as (_, paths):
        images = bench.decoded(paths)
    pixels = hvs.render(images, rows_for(images, recipe, bench.setup.seed), channels_last=True)
    views = list(pixels.unbind(1))

    def maker(how: Any) -> Callable[[], Callable[[], Any]]:
        def made() -> Callable[[], Any]:
            selector = hvs.HardViewSelector(method.objective(), autocast=torch.bfloat16, compile=how)
            return lambda: selector(views)

        return made

    makers = {name: maker(how) for name, how in (WAYS if device == "cuda" else REHEARSED).items()}
    yield from bench.measure("scoring, simsiam, n = 4, bfloat16", makers, len(images), "images", mine=(PLAIN,))


def steps(data: str | None, device: str, quick: bool) -> Iterator[Finding]:
    """Training steps, loader included: vanilla, with exact selection and with budgets."""
    amounts, sizes = QUICK if quick else AMOUNTS, _sizes(quick)
    setup = Setup(METHOD, sizes, "bfloat16", device, machine.cores())
    every = settings(METHOD)
    with photos.photographs(data) as (name, paths), tempfile.TemporaryDirectory() as work:
        source = open_paths(photos.repeated(paths, sizes.batch * (LEAD + amounts.timed + 1)))
        bench = selection.Bench(setup, source, name, amounts, {its: every[its] for its in SETTINGS}, 0, Path(work))
        bench.trained()
        fine, not_run = usable(bench)
        for its, reason in not_run.items():
            yield {"what": "not run", "group": "training steps", "name": its, "reason": reason}
        trainings = {its: bench.training(its) for its in (selection.VANILLA, *fine)}
        times = side_by_side(trainings, amounts.timed, amounts.repeats)
    for its, taken in times.items():
        yield {
            "what": "steps",
            "name": its,
            "cost": cost(times, its, selection.VANILLA).as_json(),
            "seconds": {part: _median(taken, part) for part in ("wait", "select", "train")},
        }


def _median(taken: list[StepTimes], part: str) -> float:
    return Spread(tuple(getattr(its, part) for its in taken)).median


def _sizes(quick: bool) -> methods.Sizes:
    return replace(selection.SIZES[METHOD], width=8, batch=4) if quick else selection.PUBLISHED_SIZES[METHOD]
