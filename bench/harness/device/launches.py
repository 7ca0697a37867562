"""Where the device's time goes: every kernel of a rendering, recipe by recipe, beside the whole and the bound."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

import hvs_data as hvs
from harness.data import photos
from harness.device.bench import ALONE, DIFFERS_ALONE, OURS, Bench, bench_on, not_run
from harness.device.resident import rows_for, views_bound
from harness.measuring.staged import Finding
from hvs_data.recipes.spec import Recipe
from hvs_data.types import ImageBatch, ViewParams

PROFILED = 5  # calls
# of the output, beside bfloat16 in planes
FORMS = ((torch.bfloat16, True), (torch.float32, False), (torch.uint8, False))


def kernel_times(data: str | None, device: str, quick: bool) -> Iterator[Finding]:
    """The memory's speed; then views a second of every recipe, and of every form of the output, and the time of each kernel."""
    with photos.photographs(data) as (_, paths):
        bench = bench_on(device, quick)
        images, bandwidth = bench.decoded(paths), bench.bytes_per_second()
        yield {"what": "bandwidth", "bytes_per_second": bandwidth}
        for name, recipe in recipes(bench.setup.size, quick).items():
            for part, rows, size in parts(images, recipe, bench.setup.seed):
                yield from timed(bench, name + part, images, rows, size, bandwidth)
        _, rows, size = next(parts(images, bench.setup.recipe(4), bench.setup.seed))
        for dtype, channels_last in FORMS[: 1 if quick else None]:
            form = f"simsiam, {str(dtype).removeprefix('torch.')}" + ", channels-last" * channels_last
            yield from timed(bench, form, images, rows, size, bandwidth, dtype, channels_last)


def recipes(size: int, quick: bool) -> dict[str, Recipe]:
    """Of four candidates each, where the recipe says nothing else; of a quick run one with views of one size, and one with two."""
    small = size * 3 // 7
    few = {"simsiam": hvs.recipes.simsiam(4, size=size), "dino": hvs.recipes.dino(size=size, local_size=small)}
    more = {
        "simclr": hvs.recipes.simclr(4, size=size),
        "byol": hvs.recipes.byol(4, size=size),
        "dinov2": hvs.recipes.dinov2(size=size, local_size=small),
    }
    return few if quick else few | more


def parts(images: ImageBatch, recipe: Recipe, seed: int) -> Iterator[tuple[str, ViewParams, int]]:
    """The views of one size each: how they are called, their rows, and the size."""
    rows, sizes = rows_for(images, recipe, seed), [role.size for role in recipe.slot_roles]
    for size in dict.fromkeys(sizes):
        name = "" if len(set(sizes)) == 1 else f", views of {size}"
        yield name, rows.views([slot for slot, its in enumerate(sizes) if its == size]), size


def timed(
    bench: Bench,
    name: str,
    images: ImageBatch,
    rows: ViewParams,
    size: int,
    bandwidth: float,
    dtype: torch.dtype = torch.bfloat16,
    channels_last: bool = False,
) -> Iterator[Finding]:
    """One rendering of all rows: whole calls and the device's part, then its kernels in nanoseconds a view."""
    render = partial(hvs.render, images, rows, size, "fused", dtype, channels_last=channels_last)
    views, bound = rows.batch_size * rows.num_views, views_bound(rows, size, dtype, bandwidth)
    yield from bench.measure(name, {OURS: lambda: render, ALONE: lambda: render}, views, "views", bound, {ALONE: DIFFERS_ALONE})
    try:
        found = by_kernel(render, bench)
    except Exception as error:  # a profiler that does not work here takes no other time with it
        yield not_run(name, "kernels one by one", error)
        return
    kernels = [{"name": its, "launches": count, "nanoseconds": 1e9 * seconds / views} for its, (count, seconds) in found.items()]
    yield {"what": "kernels", "name": name, "views": views, "bound": 1e9 / bound, "kernels": kernels}


def by_kernel(function: Callable[[], Any], bench: Bench, calls: int = PROFILED) -> dict[str, tuple[float, float]]:
    """Launches of a call, and seconds that they take together, of each kernel and copy on the device, the longest first; none on a CPU."""
    if bench.device.type != "cuda":
        return {}
    bench.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(calls):
            function()
        bench.synchronize()
    spent: dict[str, list[float]] = defaultdict(list)
    for event in profile.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            spent[event.name].append(1e-6 * event.time_range.elapsed_us())
    in_order = sorted(spent.items(), key=lambda item: -sum(item[1]))
    return {name: (len(seconds) / calls, sum(seconds) / calls) for name, seconds in in_order}
