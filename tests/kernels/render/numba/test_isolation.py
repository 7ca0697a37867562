"""A view depends on its image and its row: not on the thread, its neighbours, the order, or what was rendered before."""

# Axes: B image, V view, S side.

from __future__ import annotations

import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hvs_data import recipes
from hvs_data.kernels.render.canvas import DTYPES, Canvas
from hvs_data.kernels.render.numba import render
from hvs_data.kernels.render.numba.render import Job, render_one
from hvs_data.types import ViewParams
from numba_rendering import rendered
from render_material import PRESETS, SIZES, drawn_rows, photo


def photos() -> list[Tensor]:
    return [photo(height, width, seed) for seed, (height, width) in enumerate(SIZES * 4)]


def in_new_thread(work: Any) -> Any:
    """Result of a function called on a thread that has never rendered."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def scratch_arrays() -> list[np.ndarray]:
    """All arrays that this thread keeps between images."""
    found, waiting = [], list(vars(render._scratch).values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, np.ndarray):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            waiting += value
    return found


# --- history -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["simsiam", "byol"])
def test_the_order_of_images_changes_nothing(preset: str) -> None:
    images = photos()
    params = drawn_rows(PRESETS[preset], images)
    expected = rendered(images, params, 20)
    for order in (range(len(images) - 1, -1, -1), np.random.default_rng(0).permutation(len(images)).tolist()):
        assert torch.equal(rendered(images, params, 20, order=order), expected)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_what_was_rendered_before_changes_nothing(interpolation: str) -> None:
    images = photos()[:6]
    params = drawn_rows(recipes.simsiam(4, size=32, interpolation=interpolation), images)
    large = [photo(300, 400)]
    large_params = drawn_rows(PRESETS["simclr"], large)

    def first() -> list[Tensor]:
        return [rendered(images, params, size) for size in (3, 20)]

    def after_a_large_one() -> list[Tensor]:
        rendered(large, large_params, 96)
        return first()

    for alone, after in zip(in_new_thread(first), in_new_thread(after_a_large_one), strict=True):
        assert torch.equal(alone, after)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_the_scratch_memory_holds_changes_nothing(dtype: torch.dtype) -> None:
    images = photos()[:6]
    params = drawn_rows(PRESETS["byol"], images)

    def renderings() -> list[Tensor]:
        return [rendered([image], params.images([b]), size, dtype) for size in (1, 6, 20) for b, image in enumerate(images)]

    def after_garbage() -> list[Tensor]:
        # memory for larger views of larger images, so that all that is used here lies in the middle of it
        rendered([photo(200, 150)], drawn_rows(PRESETS["simclr"], [photo(200, 150)]), 33)
        pixels = []
        for size in (1, 6, 20):
            for b, image in enumerate(images):
                arrays = scratch_arrays()
                assert sum(array.size for array in arrays) > 3 * 33**2
                for array in arrays:
                    array.fill(1e30 if array.dtype.kind == "f" else 113)
                pixels.append(rendered([image], params.images([b]), size, dtype))
        return pixels

    for expected, actual in zip(in_new_thread(renderings), in_new_thread(after_garbage), strict=True):
        assert torch.equal(actual, expected)


# --- threads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_threads_gives_the_same_bits(dtype: torch.dtype, channels_last: bool) -> None:
    images = photos()
    params = drawn_rows(PRESETS["simsiam"], images)
    normalize = dtype.is_floating_point
    expected = rendered(images, params, 40, dtype, channels_last=channels_last)
    for threads in (2, 5):
        canvas = Canvas.empty(params.num_views, len(images), 40, dtype, channels_last=channels_last)
        canvas.flat.fill_(0)
        job = Job.make(params, canvas, normalize=normalize)
        together = threading.Barrier(threads)

        def share(start: int, threads: int = threads, job: Job = job, together: threading.Barrier = together) -> None:
            together.wait(timeout=60)
            for position in range(start, len(images), threads):
                render_one(images[position], position, job)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(share, range(threads)))
        assert torch.equal(canvas.pixels.transpose(0, 1), expected)


def test_other_threads_run_while_a_view_is_rendered() -> None:
    image = photo(1000, 1000)
    size, views = 448, 32
    params = drawn_rows(recipes.simsiam(views, size=size), [image])
    job = Job.make(params, Canvas.empty(views, 1, size, torch.float32), normalize=True)
    render_one(image, 0, job)
    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(0.0005):
            ticks.append(time.perf_counter())

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        start = time.perf_counter()
        render_one(image, 0, job)
        end = time.perf_counter()
    finally:
        stop.set()
        ticker.join()
    # With the interpreter held throughout the compiled call, which is all but the first and last instants, no tick could fall inside.
    tenth = (end - start) / 10
    assert sum(start + tenth < time_ < end - tenth for time_ in ticks) >= 2


# --- memory ------------------------------------------------------------------------------------------------------------


def work(size: int, sizes: tuple[tuple[int, int], ...] = SIZES) -> tuple[list[Tensor], ViewParams, Job]:
    images = [photo(height, width, seed) for seed, (height, width) in enumerate(sizes)]
    params = drawn_rows(PRESETS["simsiam"], images)
    return images, params, Job.make(params, Canvas.empty(params.num_views, len(images), size, torch.float16), normalize=True)


def test_rendering_again_takes_no_memory() -> None:
    images, _, job = work(64)

    def render_all() -> None:
        for position, image in enumerate(images):
            render_one(image, position, job)

    render_all()
    kept = {id(array) for array in scratch_arrays()}
    tracemalloc.start()
    try:
        render_all()
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for _ in range(20):
            render_all()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Handles of arrays come and go, some hundred bytes each; a single channel of a view would be 16 KiB.
    assert peak - before < 8192 and after - before < 2048
    assert {id(array) for array in scratch_arrays()} == kept


def test_scratch_memory_grows_to_the_largest_and_stays() -> None:
    def bytes_after(*jobs: tuple[list[Tensor], ViewParams, Job]) -> list[int]:
        sizes = []
        for images, _, job in jobs:
            for position, image in enumerate(images):
                render_one(image, position, job)
            sizes.append(sum(array.nbytes for array in scratch_arrays()))
        return sizes

    small, large, wide = work(8), work(50), work(8, ((3, 900),))
    first, second, third, fourth = in_new_thread(lambda: bytes_after(small, large, wide, small))
    assert first < second < third == fourth
