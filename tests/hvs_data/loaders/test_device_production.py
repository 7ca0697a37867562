"""Rendering on a device beside the consumer, with a lane that keeps a diary in place of one of CUDA, and with one of CUDA."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import hvs_data as hvs
from diary_lanes import DiaryLane, FewPixels, same
from hvs_data.errors import BadImagesError
from hvs_data.loaders import staging, view_loader
from hvs_data.loaders.device_production import DeviceProduction
from hvs_data.loaders.order import EpochOrder
from hvs_data.loaders.plan import Plan
from hvs_data.types import Batch

RECIPE = hvs.recipes.simsiam(candidates=3, size=24)


@pytest.fixture
def lane(monkeypatch: pytest.MonkeyPatch) -> DiaryLane:
    """Makes loaders use this lane."""
    lane = DiaryLane()

    def begin(plan: Plan, order: EpochOrder, **options: Any) -> DeviceProduction:
        return DeviceProduction(plan, order, lane, **options)

    monkeypatch.setattr(view_loader, "begin_production", begin)
    return lane


def threads_at_work() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("hvs-loader")]


@pytest.fixture
def on_cpu(photos: Path) -> Callable[..., list[Batch]]:
    """Batches of the loader without a lane."""

    def batches(recipe: Any = RECIPE, **options: Any) -> list[Batch]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(view_loader, "begin_production", _production)
            return list(hvs.ViewLoader(photos, recipe, **options))

    return batches


def _production(plan: Plan, order: EpochOrder, **options: Any) -> Any:
    from hvs_data.loaders.production import Production

    return Production(plan, order, **options)


@pytest.mark.parametrize(("num_threads", "prefetch"), [(1, 0), (2, 2), (3, 40)])
@pytest.mark.parametrize("recipe", [RECIPE, hvs.recipes.dino(size=24, local_size=10)], ids=lambda recipe: recipe.name)
def test_batches_are_those_of_the_cpu(
    photos: Path, lane: DiaryLane, on_cpu: Callable[..., list[Batch]], recipe: Any, num_threads: int, prefetch: int
) -> None:
    options = {"batch_size": 5, "seed": 4, "num_threads": num_threads, "prefetch": prefetch}
    actual = list(hvs.ViewLoader(photos, recipe, **options))
    expected = on_cpu(recipe, **options)
    assert all(same(a, b) for a, b in zip(actual, expected, strict=True))
    assert not threads_at_work()


def test_a_stage_draws_on_the_launching_thread_what_it_draws_on_the_cpus_threads(
    photos: Path, lane: DiaryLane, on_cpu: Callable[..., list[Batch]]
) -> None:
    def stage(x: Tensor) -> Tensor:
        assert len(x) == 1
        return x * torch.rand(())

    def at_once(x: Tensor, keys: Tensor) -> Tensor:
        return x * hvs.uniform(keys, 1)[:, :, None, None]

    before = torch.get_rng_state()
    for extra_stage in (stage, hvs.Stage(at_once, batched=True)):
        actual = list(hvs.ViewLoader(photos, RECIPE, 5, extra_stage=extra_stage))
        assert all(same(a, b) for a, b in zip(actual, on_cpu(batch_size=5, extra_stage=extra_stage), strict=True))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.uint8])
def test_number_formats_and_memory_order(photos: Path, lane: DiaryLane, on_cpu: Callable[..., list[Batch]], dtype: torch.dtype) -> None:
    options = {"batch_size": 8, "dtype": dtype, "channels_last": True}
    actual = list(hvs.ViewLoader(photos, RECIPE, **options))
    assert all(same(a, b) for a, b in zip(actual, on_cpu(**options), strict=True))
    assert all(view.is_contiguous(memory_format=torch.channels_last) for batch in actual for view in batch.views)


def test_work_is_queued_by_one_thread_ahead_of_the_consumer_who_takes_it_over(photos: Path, lane: DiaryLane) -> None:
    ahead = []
    for number, batch in enumerate(hvs.ViewLoader(photos, RECIPE, batch_size=2, prefetch=2), 1):
        # the consumer's stream was told to wait for this very batch, by the consumer
        assert lane.diary.count((f"hand over {number}", threading.current_thread().name)) == 1
        assert {view.untyped_storage().data_ptr() for view in batch.views} < set(lane.handed)
        assert batch.labels.untyped_storage().data_ptr() in lane.handed
        ahead.append(lane.marks - number)
    assert number == 11 and max(ahead) <= 2
    queueing = {thread for what, thread in lane.diary if not what.startswith("hand over")}
    assert queueing == {"hvs-loader-launch-0"}
    order = [what for what, _ in lane.diary if what.startswith("hand over")]
    assert order == [f"hand over {number}" for number in range(1, 12)]


def test_a_batch_is_one_copy_once_its_size_is_known(photos: Path, lane: DiaryLane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "BLOCK_BYTES", 20_000)
    loader = hvs.ViewLoader(photos, RECIPE, batch_size=22, prefetch=0)
    counts = []
    for _ in range(3):
        iterator = iter(loader)
        next(iterator)
        counts.append(len(lane.copies))
        lane.copies.clear()
    assert counts[0] > 3  # a new iteration knows nothing of the one before
    loader = hvs.ViewLoader(photos, RECIPE, batch_size=11, prefetch=0, shuffle=False)
    counts = []
    for _ in loader:
        counts.append(len(lane.copies))
        lane.copies.clear()
    # labels and indices are a copy of their own
    assert counts[0] > 2 and counts[1] <= 3


def test_a_batch_stays_as_it_is_while_it_is_kept(photos: Path, lane: DiaryLane) -> None:
    kept = [(batch, [view.clone() for view in batch.views]) for batch in hvs.ViewLoader(photos, RECIPE, batch_size=2, prefetch=1)]
    assert all(torch.equal(view, copy) for batch, copies in kept for view, copy in zip(batch.views, copies, strict=True))


@pytest.mark.parametrize("scaled_decode", [False, True])
@pytest.mark.parametrize("score_size", [None, 12])
def test_hardest_pairs_are_rendered_late_from_the_images_on_the_device(
    photos: Path, lane: DiaryLane, score_size: int | None, scaled_decode: bool
) -> None:
    def hard() -> list[Batch]:
        loader = hvs.ViewLoader(photos, RECIPE, batch_size=8, seed=2, scaled_decode=scaled_decode)
        return list(hvs.HardViewLoader(loader, hvs.HardViewSelector(FewPixels(), score_size=score_size)))

    actual = hard()
    assert lane.marks == 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(view_loader, "begin_production", _production)
        expected = hard()
    for a, b in zip(actual, expected, strict=True):
        assert same(a, b) and torch.equal(a.selection.pair, b.selection.pair)
        assert [tuple(view.shape) for view in a.views] == [(len(a.labels), 3, 24, 24)] * 2


def test_images_that_are_kept_are_handed_over_too(photos: Path, lane: DiaryLane) -> None:
    loader = hvs.ViewLoader(photos, RECIPE, batch_size=8)
    for keep_images in (True, False):
        product = next(loader.products(keep_images=keep_images))
        assert (product.images is not None) == keep_images
        if keep_images:
            assert {image.untyped_storage().data_ptr() for image in product.images.pixels} < set(lane.handed)
            again = product.render(product.batch.params)
            assert all(torch.equal(view, other) for view, other in zip(again, product.batch.views, strict=True))


def test_bad_images_are_replaced_and_too_many_end_the_iteration(photos: Path, lane: DiaryLane, tmp_path: Path) -> None:
    for path in photos.rglob("*.jpg"):
        (tmp_path / path.name).write_bytes(path.read_bytes() if path.name > "03.jpg" else b"no picture")
    loader = hvs.ViewLoader(tmp_path, RECIPE, batch_size=8)
    assert sum(len(batch.labels) for batch in loader) == 22 and len(loader.quarantine) == 4
    with pytest.raises(BadImagesError):
        list(hvs.ViewLoader(tmp_path, RECIPE, batch_size=8, max_bad_share=0.0))
    assert not threads_at_work()


def test_what_goes_wrong_on_the_device_reaches_the_consumer(photos: Path, lane: DiaryLane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "mark", lambda: (_ for _ in ()).throw(RuntimeError("out of memory")))
    with pytest.raises(RuntimeError, match="out of memory"):
        next(iter(hvs.ViewLoader(photos, RECIPE, batch_size=8)))
    assert not threads_at_work()


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_an_iteration_may_be_broken_off(photos: Path, lane: DiaryLane, taken: int) -> None:
    iterator = iter(hvs.ViewLoader(photos, RECIPE, batch_size=2, prefetch=3))
    assert len(list(islice(iterator, taken))) == taken
    iterator.close()
    assert not threads_at_work()


# --- on CUDA -----------------------------------------------------------------------------------------------------------

cuda = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("options", [{}, {"dtype": torch.bfloat16, "channels_last": True}], ids=str)
@pytest.mark.parametrize("prefetch", [0, 3])
class TestCuda:
    pytestmark = cuda

    def test_batches_are_those_of_the_public_functions(self, photos: Path, prefetch: int, options: dict[str, Any]) -> None:
        loader = hvs.ViewLoader(photos, RECIPE, batch_size=8, device="cuda", prefetch=prefetch, **options)
        kept = []
        for batch in loader:
            assert all(view.is_cuda for view in batch.views) and batch.labels.is_cuda
            kept.append((batch, [view.clone() for view in batch.views]))
        for batch, copies in kept:  # memory is nobody else's while a batch is kept
            images = hvs.decode([(photos / loader.dataset.names[i]).read_bytes() for i in batch.index.tolist()], device="cuda")
            expected = hvs.render(images, batch.params, **options)
            for slot, (view, copy) in enumerate(zip(batch.views, copies, strict=True)):
                assert torch.equal(view, copy) and torch.equal(view, expected[:, slot])

    def test_a_consumer_on_a_stream_of_its_own(self, photos: Path, prefetch: int, options: dict[str, Any]) -> None:
        stream = torch.cuda.Stream()
        plain = list(hvs.ViewLoader(photos, RECIPE, batch_size=4, device="cuda", prefetch=prefetch, **options))
        with torch.cuda.stream(stream):
            sums = [batch.views[0].float().sum() for batch in hvs.ViewLoader(photos, RECIPE, batch_size=4, device="cuda", **options)]
        stream.synchronize()
        assert all(torch.equal(total, batch.views[0].float().sum()) for total, batch in zip(sums, plain, strict=True))

    def test_the_host_never_waits(self, photos: Path, prefetch: int, options: dict[str, Any]) -> None:
        loader = hvs.ViewLoader(photos, RECIPE, batch_size=8, device="cuda", prefetch=prefetch, **options)
        list(loader)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for batch in loader:
                batch.views[0].float().mean()
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def test_hardest_pairs_rendered_late(self, photos: Path, prefetch: int, options: dict[str, Any]) -> None:
        loader = hvs.ViewLoader(photos, RECIPE, batch_size=8, device="cuda", prefetch=prefetch, **options)
        for batch in hvs.HardViewLoader(loader, hvs.HardViewSelector(FewPixels(), score_size=12)):
            images = hvs.decode([(photos / loader.dataset.names[i]).read_bytes() for i in batch.index.tolist()], device="cuda")
            expected = hvs.render(images, batch.params.take(batch.selection.pair), **options)
            assert all(torch.equal(view, expected[:, side]) for side, view in enumerate(batch.views))
