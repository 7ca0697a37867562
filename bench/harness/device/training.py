"""What scoring and whole training steps take on a device, with a network of the published size."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hvs_data as hvs
from harness.data import photos
from harness.device.bench import bench_on
from harness.device.resident import rows_for
from harness.measuring import machine
from harness.measuring.staged import Finding
from harness.measuring.timing import Spread
from harness.pretraining import methods
from harness.pretraining.steps import LEAD, StepTimes, cost, side_by_side
from harness.pretraining.training import PRECISIONS, Setup
from harness.selection import bench as selection
from harness.selection.settings import EXACT, settings
from hvs_data.sources.folder import open_paths

METHOD = "simsiam"
PLAIN = "as it is"
WAYS: dict[str, Any] = {PLAIN: False, "compiled": True, "compiled, in CUDA graphs": "reduce-overhead"}
# nothing is compiled for a CPU, which takes longer than all else
REHEARSED: dict[str, Any] = {PLAIN: False, "compiled": {"backend": "eager"}}
SETTINGS = ("cheap, 8 views", EXACT, "balanced, 8 views")
PARTS = ("wait", "select", "train")
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
            selector = hvs.HardViewSelector(method.objective(), autocast=PRECISIONS[_precision(device)], compile=how)
            return lambda: selector(views)

        return made

    makers = {name: maker(how) for name, how in (WAYS if device == "cuda" else REHEARSED).items()}
    yield from bench.measure(f"scoring, simsiam, n = 4, {_precision(device)}", makers, len(images), "images", mine=(PLAIN,))


def steps(data: str | None, device: str, quick: bool) -> Iterator[Finding]:
    """Training steps of each setting in alternation with vanilla ones, loader included."""
    amounts, sizes = QUICK if quick else AMOUNTS, _sizes(quick)
    setup = Setup(METHOD, sizes, _precision(device), device, machine.cores())
    every, chosen = settings(METHOD), SETTINGS[: 1 if quick else None]
    with photos.photographs(data) as (name, paths), tempfile.TemporaryDirectory() as work:
        source = open_paths(photos.repeated(paths, sizes.batch * (LEAD + amounts.timed + 1)))
        bench = selection.Bench(setup, source, name, amounts, {its: every[its] for its in (EXACT, *chosen)}, 0, Path(work))
        bench.trained()
        for setting in chosen:
            times = side_by_side({its: bench.training(its) for its in (selection.VANILLA, setting)}, amounts.timed, amounts.repeats)
            yield {
                "what": "steps",
                "name": setting,
                "cost": cost(times, setting, selection.VANILLA).as_json(),
                "seconds": {its: {part: _median(taken, part) for part in PARTS} for its, taken in times.items()},
            }


def _precision(device: str) -> str:
    # many processors play bfloat16, at a tenth of the speed
    return "bfloat16" if device == "cuda" else "float32"


def _median(taken: list[StepTimes], part: str) -> float:
    return Spread(tuple(getattr(its, part) for its in taken)).median


def _sizes(quick: bool) -> methods.Sizes:
    return replace(selection.SIZES[METHOD], width=8, batch=4) if quick else selection.PUBLISHED_SIZES[METHOD]
