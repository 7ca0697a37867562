"""Batches rendered by replayed launches are the batches that are launched anew, bit for bit.

In Triton's interpreter, in a process of its own, a graph is stood for by the launches themselves: whatever they were captured with (grids,
addresses, numbers) stays, and only the memory that they read has changed. On a CUDA device, graphs are real.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import hvs_data as hvs
from hvs_data.arguments.sizes import Size
from hvs_data.kernels.render.canvas import Canvas, count_elements
from hvs_data.types import ViewParams
from interpreted import assert_passes, take_indices
from render_material import drawn_rows, photo

pytest.importorskip("triton")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if INTERPRETED:
    take_indices()
interpreted = pytest.mark.skipif(not INTERPRETED, reason="runs in the interpreter's process")

RECIPES = {"byol": hvs.recipes.byol(2, size=16), "bicubic": hvs.recipes.simclr(2, size=16, interpolation="bicubic")}


@pytest.mark.skipif(INTERPRETED, reason="starts this process")
def test_in_the_interpreter() -> None:
    assert_passes(__file__, skipped=2)  # this very test and the one for a device


class Capture:
    """Stands for a graph: notes what is captured and replayed."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0

    def __call__(self, launches: Callable[[], None]) -> Callable[[], None]:
        self.captured += 1

        def replay() -> None:
            self.replayed += 1
            launches()

        return replay


def batch(number: int, recipe: hvs.recipes.Recipe, images: int = 2, longest: int = 24) -> tuple[list[Tensor], ViewParams]:
    """Images of other sizes and rows of other operations for every number."""
    made = [photo(longest - 3 * number - place, 5 + 4 * number + place, seed=10 * number + place) for place in range(images)]
    return made, drawn_rows(recipe, made, seed=number)


def into_new_memory(
    render: Callable[..., None], images: list[Tensor], params: ViewParams, size: Size, dtype: torch.dtype, channels_last: bool
) -> Tensor:
    """Views rendered into the middle image of a canvas of two more, which stay as they are."""
    views, count = params.num_views, len(images) + 2
    flat = torch.full((count_elements(views, count, size),), 7, dtype=dtype, device=images[0].device)
    canvas = Canvas.on(flat, views, count, size, channels_last=channels_last)
    render(images, params, canvas, normalize=dtype.is_floating_point, first_image=1)
    assert (canvas.pixels[:, [0, -1]] == 7).all()
    return canvas.pixels[:, 1:-1].clone()


def compare(
    capture: Callable[..., Callable[[], None]], recipe: hvs.recipes.Recipe, dtype: torch.dtype, channels_last: bool, device: str
) -> None:
    from hvs_data.kernels.render.triton.graphs import Graphs
    from hvs_data.kernels.render.triton.render import render_views

    graphs = Graphs(capture)
    kept = []  # memory that is not given out again, so that every canvas lies elsewhere
    for number in range(3):
        images, params = batch(number, recipe)
        images = [image.to(device) for image in images]
        how = (images, params, (5, 9), dtype, channels_last)
        kept.append(into_new_memory(graphs.render_views, *how))
        assert torch.equal(kept[-1], into_new_memory(render_views, *how)), number


@interpreted
@pytest.mark.parametrize(("recipe", "dtype", "channels_last"), [("byol", torch.float32, False), ("bicubic", torch.bfloat16, True)])
def test_replayed_batches_are_those_that_are_launched(recipe: str, dtype: torch.dtype, channels_last: bool) -> None:
    capture = Capture()
    compare(capture, RECIPES[recipe], dtype, channels_last, "cpu")
    # the first batch is launched, the second one launched and captured, unless a later one needs more memory for weights
    assert capture.captured >= 1 and capture.captured + capture.replayed == 2


@interpreted
def test_shapes_are_told_apart_and_a_batch_of_longer_crops_is_captured_anew() -> None:
    from hvs_data.kernels.render.triton.graphs import KEPT, Graphs
    from hvs_data.kernels.render.triton.render import render_views

    capture = Capture()
    graphs = Graphs(capture)

    def render(images: int, longest: int = 12, size: Size = 4) -> None:
        how = (*batch(0, RECIPES["byol"], images, longest), size, torch.float32, False)
        assert torch.equal(into_new_memory(graphs.render_views, *how), into_new_memory(render_views, *how))

    for _ in range(3):
        render(2)
    assert (capture.captured, capture.replayed) == (1, 1)
    render(1)
    render(2, size=3)
    assert (capture.captured, capture.replayed) == (1, 1)  # seen for the first time
    render(2, longest=60)
    assert (capture.captured, capture.replayed) == (2, 1)  # weights of more taps than there was memory for
    render(2)
    assert (capture.captured, capture.replayed) == (2, 2)
    for size in range(5, 5 + KEPT):
        render(1, size=size)
        render(1, size=size)
    assert capture.captured == 2 + KEPT
    render(2)  # let go meanwhile
    assert (capture.captured, capture.replayed) == (3 + KEPT, 2)


@interpreted
def test_what_is_rendered_part_by_part_is_not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    from hvs_data.kernels.render.triton import render
    from hvs_data.kernels.render.triton.graphs import Graphs

    capture = Capture()
    graphs = Graphs(capture)
    monkeypatch.setattr(render, "SCRATCH_BYTES", 1)
    for number in range(3):
        how = (*batch(number, RECIPES["byol"]), 4, torch.float32, False)
        assert torch.equal(into_new_memory(graphs.render_views, *how), into_new_memory(render.render_views, *how))
    assert capture.captured == 0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_device() -> None:
    from hvs_data.kernels.render.triton.graphs import captured

    for recipe in RECIPES.values():
        for dtype, channels_last in ((torch.float32, False), (torch.bfloat16, True), (torch.uint8, False)):
            compare(captured, recipe, dtype, channels_last, "cuda")
