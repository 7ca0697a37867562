"""Views of images that lie in the device's memory: beside other libraries, and beside the bound that the memory's speed sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

import hvs_data as hvs
from harness.data import photos
from harness.device.bench import ALONE, DIFFERS_ALONE, OURS, Bench, bench_on
from harness.loaders import gpu_peers
from harness.measuring.staged import Finding
from hvs_data.kernels.render.canvas import Canvas, count_elements
from hvs_data.pipelines.engine import choose_engine
from hvs_data.recipes.spec import Recipe
from hvs_data.types import ImageBatch, ViewParams

DRAWN, REFERENCE = "hvs_data, rows drawn too", "hvs_data, engine reference"
GRAPH = "hvs_data, launches from a CUDA graph"
DIFFERS = {
    OURS: "nothing: rows are drawn before",
    DRAWN: "nothing: rows are drawn on the CPU within the time",
    ALONE: DIFFERS_ALONE,
    GRAPH: "nothing: the tables are made and copied within the time, as in a loader with engine='fused-graph'",
    REFERENCE: "nothing: plain PyTorch in float32, one view after another",
    **gpu_peers.DIFFERS,
}
# the first is the one that targets name
CANDIDATES = (4, 2, 8)

Makers = dict[str, Callable[[], Callable[[], Any]]]


def views_bound(rows: ViewParams, size: int, dtype: torch.dtype, bandwidth: float) -> float:
    """Views a second if each crop is read once, each output written once, and nothing else takes time."""
    read = 3 * float((rows.box[..., 2].double() * rows.box[..., 3]).sum())
    views = rows.batch_size * rows.num_views
    return bandwidth * views / (read + views * 3 * size**2 * dtype.itemsize)


def rows_for(images: ImageBatch, recipe: Recipe, seed: int) -> ViewParams:
    return hvs.sample_views(recipe, seed=seed, epoch=0, index=torch.arange(len(images)), height=images.height, width=images.width)


def group_of(candidates: int) -> str:
    return f"from resident uint8, n = {candidates}"


def beside_libraries(data: str | None, device: str, quick: bool, dtype: torch.dtype = torch.bfloat16) -> Iterator[Finding]:
    """The whole recipe, beside torchvision v2 and Kornia; then what triton-augment has, beside it."""
    with photos.photographs(data) as (_, paths):
        bench = bench_on(device, quick)
        images, bandwidth = bench.decoded(paths), bench.bytes_per_second()
        yield {"what": "bandwidth", "bytes_per_second": bandwidth}
        for candidates in CANDIDATES:
            recipe = bench.setup.recipe(candidates)
            makers = ours(bench, images, recipe, dtype) | {
                "torchvision v2": partial(gpu_peers.torchvision_views, images, recipe, dtype),
                "kornia": partial(gpu_peers.kornia_views, images, recipe, dtype),
            }
            yield from _measured(bench, group_of(candidates), makers, images, recipe, dtype, bandwidth)
            if candidates == CANDIDATES[0]:
                yield from _of_triton_augment(bench, images, bandwidth, dtype)


def beside_slow_ones(data: str | None, device: str, quick: bool, dtype: torch.dtype = torch.bfloat16) -> Iterator[Finding]:
    """Beside the reference engine, and beside Kornia compiled, which takes minutes to compile."""
    with photos.photographs(data) as (_, paths):
        bench = bench_on(device, quick)
        images, bandwidth, recipe = bench.decoded(paths), bench.bytes_per_second(), bench.setup.recipe(CANDIDATES[0])
        reference = partial(hvs.render, images, rows_for(images, recipe, bench.setup.seed), engine="reference", dtype=dtype)
        compiled = partial(gpu_peers.kornia_views, images, recipe, dtype, compiled=True)
        slow: tuple[Makers, ...] = ({REFERENCE: lambda: reference}, {"kornia, compiled": compiled})
        for others in slow:
            group = f"{group_of(recipe.num_views)}, beside {next(iter(others))}"
            yield from _measured(bench, group, ours(bench, images, recipe, dtype) | others, images, recipe, dtype, bandwidth)


def ours(bench: Bench, images: ImageBatch, recipe: Recipe, dtype: torch.dtype) -> Makers:
    """Whole calls, with rows drawn before and within, the device's part alone, and whole calls whose launches are replayed."""
    rows = rows_for(images, recipe, bench.setup.seed)

    def drawn() -> Tensor:
        return hvs.render(images, rows_for(images, recipe, bench.setup.seed), engine="fused", dtype=dtype)

    def whole() -> Callable[[], Tensor]:
        return partial(hvs.render, images, rows, engine="fused", dtype=dtype)

    def graphed() -> Callable[[], Canvas]:
        engine = choose_engine("fused-graph", images.device, rows.spec)

        def into_new_memory() -> Canvas:
            size = recipe.slot_roles[0].size
            flat = torch.empty(count_elements(rows.num_views, len(images), size), dtype=dtype, device=images.device)
            canvas = Canvas.on(flat, rows.num_views, len(images), size)
            engine.render_group(images, rows, canvas, normalize=True)
            return canvas

        into_new_memory()  # the next call captures
        return into_new_memory

    return {OURS: whole, ALONE: whole, DRAWN: lambda: drawn, **({GRAPH: graphed} if images.device.type == "cuda" else {})}


def _measured(
    bench: Bench, group: str, makers: Makers, images: ImageBatch, recipe: Recipe, dtype: torch.dtype, bandwidth: float
) -> Iterator[Finding]:
    bound = views_bound(rows_for(images, recipe, bench.setup.seed), bench.setup.size, dtype, bandwidth)
    return bench.measure(group, makers, len(images) * recipe.num_views, "views", bound, DIFFERS)


def _of_triton_augment(bench: Bench, images: ImageBatch, bandwidth: float, dtype: torch.dtype) -> Iterator[Finding]:
    """What triton-augment has: crops without resize from images of one size, and no hue and no blur."""
    setup = bench.setup
    side = setup.size * 8 // 7
    plain = setup.recipe(CANDIDATES[0])
    recipe = plain.with_roles(jitter=replace(plain.roles[0].jitter, p=1.0, hue=0.0), blur=0.0)
    square = rows_for(images, hvs.recipes.simsiam(2, size=side), setup.seed).views([0])
    squares = hvs.render(images, square, dtype=torch.uint8)[:, 0].permute(0, 2, 3, 1).contiguous()
    batch = ImageBatch(list(squares))
    rows = rows_for(batch, recipe, setup.seed)
    corner = (rows.box[..., :2].double() / side * (side - setup.size)).int()
    rows = replace(rows, box=torch.cat([corner, torch.full_like(corner, setup.size)], dim=-1))
    floats = squares.permute(0, 3, 1, 2).float() / 255
    whole = partial(hvs.render, batch, rows, engine="fused", dtype=dtype)
    makers: Makers = {
        OURS: lambda: whole,
        ALONE: lambda: whole,
        "triton-augment": partial(gpu_peers.triton_augment_views, floats, recipe, dtype),
    }
    group, bound = f"operations of triton-augment, n = {recipe.num_views}", views_bound(rows, setup.size, dtype, bandwidth)
    return bench.measure(group, makers, len(images) * recipe.num_views, "views", bound, DIFFERS)
