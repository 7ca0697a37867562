"""Rendering on the CPU for a device, with a lane that keeps a diary in place of one of CUDA, and with one of CUDA."""

from __future__ import annotations

import threading
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import hvs_data as hvs
from diary_lanes import DiaryLane, FewPixels, same
from hvs_data.errors import HvsError
from hvs_data.loaders import view_loader
from hvs_data.loaders.host_production import HostProduction
from hvs_data.loaders.order import EpochOrder
from hvs_data.loaders.plan import Plan

RECIPE = hvs.recipes.simsiam(candidates=3, size=24)


@pytest.fixture
def lane(monkeypatch: pytest.MonkeyPatch) -> DiaryLane:
    """Makes loaders with ``render_on="cpu"`` use this lane, and others none."""
    lane, begin_production = DiaryLane(), view_loader.begin_production

    def begin(plan: Plan, order: EpochOrder, **options: Any) -> Any:
        return HostProduction(plan, order, lane, **options) if plan.render_on == "cpu" else begin_production(plan, order, **options)

    monkeypatch.setattr(view_loader, "begin_production", begin)
    return lane


@pytest.mark.parametrize(("num_threads", "prefetch"), [(1, 0), (2, 2), (3, 40)])
@pytest.mark.parametrize("recipe", [RECIPE, hvs.recipes.dino(size=24, local_size=10)], ids=lambda recipe: recipe.name)
def test_batches_are_those_of_the_cpu(photos: Path, lane: DiaryLane, recipe: Any, num_threads: int, prefetch: int) -> None:
    options = {"batch_size": 5, "seed": 4, "num_threads": num_threads, "prefetch": prefetch}
    actual = list(hvs.ViewLoader(photos, recipe, render_on="cpu", **options))
    assert lane.marks == len(actual)
    assert all(same(a, b) for a, b in zip(actual, hvs.ViewLoader(photos, recipe, **options), strict=True))
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("hvs-loader")]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.uint8])
def test_number_formats_and_memory_order(photos: Path, lane: DiaryLane, dtype: torch.dtype) -> None:
    options = {"batch_size": 8, "dtype": dtype, "channels_last": True}
    actual = list(hvs.ViewLoader(photos, RECIPE, render_on="cpu", **options))
    assert all(same(a, b) for a, b in zip(actual, hvs.ViewLoader(photos, RECIPE, **options), strict=True))
    assert all(view.is_contiguous(memory_format=torch.channels_last) for batch in actual for view in batch.views)


def test_views_of_a_size_are_one_copy_which_the_consumer_waits_for(photos: Path, lane: DiaryLane) -> None:
    recipe = hvs.recipes.dino(size=24, local_size=10)
    for number, batch in enumerate(hvs.ViewLoader(photos, recipe, batch_size=2, prefetch=2, render_on="cpu"), 1):
        assert lane.diary.count((f"hand over {number}", threading.current_thread().name)) == 1
        assert {view.untyped_storage().data_ptr() for view in batch.views} < set(lane.handed)
        assert lane.marks - number <= 2
    sizes = [4 * 2 * 3 * views * side**2 for views, side in ((2, 24), (8, 10))]
    assert number == 11 and lane.copies == [*sizes, 32] * 11  # then labels and indices
    assert {thread for what, thread in lane.diary if not what.startswith("hand over")} == {"hvs-loader-launch-0"}


@pytest.mark.parametrize("options", [{}, {"score_size": 12}, {"prefilter": 2}, {"every": 2}], ids=str)
def test_hardest_pairs_are_those_of_the_cpu(photos: Path, lane: DiaryLane, options: dict[str, Any]) -> None:
    def hard(**where: Any) -> list[hvs.Batch]:
        recipe = hvs.recipes.simsiam(candidates=3, size=24, twins=(hvs.recipes.Twin(30),))
        loader = hvs.ViewLoader(photos, recipe, batch_size=8, seed=2, **where)
        return list(hvs.HardViewLoader(loader, hvs.HardViewSelector(FewPixels(), **options)))

    for a, b in zip(hard(render_on="cpu"), hard(), strict=True):
        assert same(a, b) and torch.equal(a.selection.slots, b.selection.slots)
        assert all(torch.equal(x, y) for x, y in zip(a.twins[0], b.twins[0], strict=True))


def test_a_batch_stays_as_it_is_while_it_is_kept_and_breaking_off_ends_the_threads(photos: Path, lane: DiaryLane) -> None:
    iterator = iter(hvs.ViewLoader(photos, RECIPE, batch_size=2, prefetch=1, render_on="cpu"))
    kept: list[tuple[hvs.Batch, list[Tensor]]] = [(batch, [view.clone() for view in batch.views]) for batch in islice(iterator, 5)]
    assert all(torch.equal(view, copy) for batch, copies in kept for view, copy in zip(batch.views, copies, strict=True))
    iterator.close()  # type: ignore[attr-defined]
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("hvs-loader")]


def test_what_does_not_fit_is_refused(photos: Path) -> None:
    with pytest.raises(HvsError, match="render_on must be one of .*, got 'gpu'"):
        hvs.ViewLoader(photos, RECIPE, render_on="gpu")
    with pytest.raises(HvsError, match='expected decode_on="cpu" with render_on="cpu"'):
        hvs.ViewLoader(photos, RECIPE, render_on="cpu", decode_on="device")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_views_arrive_as_on_the_cpu(photos: Path) -> None:
    options = {"batch_size": 8, "seed": 1, "dtype": torch.bfloat16}
    for a, b in zip(
        hvs.ViewLoader(photos, RECIPE, device="cuda", render_on="cpu", **options), hvs.ViewLoader(photos, RECIPE, **options), strict=True
    ):
        assert a.views[0].is_cuda and same(a.to("cpu"), b)
