"""Hardest pairs in place of random ones, under the weights of the step at which they are asked for."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Iterable
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hvs_data as hvs
from hvs_data.errors import HvsError, SelectionError
from hvs_data.types import Batch
from witness import Witness

RECIPE = hvs.recipes.simsiam(candidates=4, size=24)


class Toy(nn.Module):
    """A SimSiam model in the small."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 16)
        )
        self.predictor = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 16))

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        z1, z2 = self.encoder(x1), self.encoder(x2)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        return -(F.cosine_similarity(p1, z2.detach()).mean() + F.cosine_similarity(p2, z1.detach()).mean()) / 2


def candidates_loader(photos: Path, **options: Any) -> hvs.ViewLoader:
    return hvs.ViewLoader(photos, RECIPE, **{"batch_size": 8, "seed": 3, "drop_last": True, **options})


def hardest_by_hand(model: Toy, candidates: list[Tensor]) -> Tensor:
    """Pairs [B, 2]: every pair's loss in a loop over images and pairs, from one forward of all candidates with batch statistics."""
    twin = deepcopy(model).train()
    with torch.no_grad():
        z = twin.encoder(torch.cat(candidates))
        p = twin.predictor(z)
    count, images = len(candidates), len(candidates[0])
    pairs = []
    for b in range(images):
        losses = {}
        for i in range(count):
            for j in range(i + 1, count):
                row_i, row_j = i * images + b, j * images + b
                cosines = F.cosine_similarity(p[row_i], z[row_j], 0) + F.cosine_similarity(p[row_j], z[row_i], 0)
                losses[i, j] = float(-cosines / 2)
        pairs.append(max(losses, key=lambda pair: losses[pair]))
    return torch.tensor(pairs)


def train(model: Toy, batches: Iterable[Batch]) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for (x1, x2), _ in batches:
        optimizer.zero_grad()
        model(x1, x2).backward()
        optimizer.step()


def test_each_batch_is_the_hardest_under_the_weights_of_its_step(photos: Path) -> None:
    model = Toy()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    hard = hvs.HardViewLoader(candidates_loader(photos, prefetch=3), hvs.HardViewSelector(hvs.objectives.SimSiam(model)))
    changed = 0
    first_weights = deepcopy(model)
    for batch, candidates in zip(hard, candidates_loader(photos), strict=True):
        expected = hardest_by_hand(model, candidates.views)
        changed += int((expected != hardest_by_hand(first_weights, candidates.views)).any())
        assert torch.equal(batch.selection.pair, expected)
        for side, view in enumerate(batch.views):
            assert torch.equal(view, torch.stack([candidates.views[slot][b] for b, slot in enumerate(expected[:, side])]))
        assert torch.equal(batch.index, candidates.index) and torch.equal(batch.labels, candidates.labels)
        optimizer.zero_grad()
        model(*batch.views).backward()
        optimizer.step()
    assert changed  # the weights matter, so stale ones would have been noticed


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_candidates_are_scored_small_and_the_chosen_rendered_large(photos: Path, channels_last: bool, dtype: torch.dtype) -> None:
    model = Toy().to(dtype)
    loader = candidates_loader(photos, dtype=dtype, channels_last=channels_last)
    hard = hvs.HardViewLoader(loader, hvs.HardViewSelector(hvs.objectives.SimSiam(model), score_size=15))
    batch = next(iter(hard))
    images = hvs.decode([(photos / loader.dataset.names[index]).read_bytes() for index in batch.index.tolist()])
    small = hvs.render(images, batch.params, size=15, dtype=dtype)
    assert torch.equal(batch.selection.pair, hvs.HardViewSelector(hvs.objectives.SimSiam(model)).select(small).pair)
    large = hvs.render(images, batch.params.take(batch.selection.pair), size=24, dtype=dtype)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    for side, view in enumerate(batch.views):
        assert view.dtype == dtype and view.is_contiguous(memory_format=memory_format)
        assert torch.equal(view, large[:, side])


def test_a_scoring_size_that_is_not_smaller_changes_nothing(photos: Path) -> None:
    selector = hvs.HardViewSelector(hvs.objectives.SimSiam(Toy()))
    large = hvs.HardViewSelector(hvs.objectives.SimSiam(Toy()), score_size=24)
    for a, b in zip(
        hvs.HardViewLoader(candidates_loader(photos), selector), hvs.HardViewLoader(candidates_loader(photos), large), strict=True
    ):
        assert all(torch.equal(x, y) for x, y in zip(a.views, b.views, strict=True))


@pytest.mark.parametrize("score_size", [None, 15])
def test_what_a_selection_tells(photos: Path, score_size: int | None) -> None:
    hard = hvs.HardViewLoader(candidates_loader(photos), hvs.HardViewSelector(hvs.objectives.SimSiam(Toy()), score_size=score_size))
    for batch in hard:
        views, labels = batch
        selection = batch.selection
        assert len(views) == 2 and labels is batch.labels
        assert selection.pair.shape == (8, 2) and selection.losses.shape == (8, 4, 4) and batch.params.num_views == 4
        upper = selection.losses[:, *torch.triu_indices(4, 4, 1)]
        assert torch.equal(selection.loss, upper.amax(1))
        overlap = hvs.iou(batch.params)
        assert torch.equal(selection.iou, overlap[torch.arange(8), selection.pair[:, 0], selection.pair[:, 1]])


def test_training_on_chosen_pairs_is_the_same_whether_they_were_chosen_or_given(photos: Path) -> None:
    chosen, given = Toy(), Toy()
    batches: list[Batch] = []

    def noted(loader: Iterable[Batch]) -> Iterable[Batch]:
        for batch in loader:
            batches.append(batch)
            yield batch

    train(chosen, noted(hvs.HardViewLoader(candidates_loader(photos), hvs.HardViewSelector(hvs.objectives.SimSiam(chosen)))))
    train(given, batches)
    assert all(torch.equal(a, b) for a, b in zip(chosen.state_dict().values(), given.state_dict().values(), strict=True))


def test_it_stands_in_for_the_loader(photos: Path) -> None:
    loader = candidates_loader(photos)
    hard = hvs.HardViewLoader(loader, hvs.HardViewSelector(hvs.objectives.SimSiam(Toy())))
    assert len(hard) == len(loader) == 2 and hard.dataset is loader.dataset and hard.batch_size == 8
    hard.sampler.set_epoch(4)
    assert [batch.epoch for batch in hard] == [4, 4]
    hard.set_epoch(1)
    assert [batch.epoch for batch in hard] == [1, 1]
    assert "HardViewLoader" in repr(hard)


@pytest.mark.parametrize("score_size", [None, 15])
@pytest.mark.parametrize("policy", ["hardest", "softmax"])
def test_resuming_continues_where_it_stopped(photos: Path, score_size: int | None, policy: str) -> None:
    def make() -> hvs.HardViewLoader:
        # what is drawn, and in which steps the model is asked, depends on the selector's own step
        selector = hvs.HardViewSelector(hvs.objectives.SimSiam(Toy()), score_size=score_size, policy=policy, every=2)
        return hvs.HardViewLoader(candidates_loader(photos, batch_size=5), selector)

    expected = list(make())
    interrupted = make()
    got = list(islice(interrupted, 2))
    resumed = make()
    resumed.load_state_dict(interrupted.state_dict())
    got += list(resumed)
    assert len(got) == len(expected) == 4
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a.selection.pair, b.selection.pair) and all(torch.equal(x, y) for x, y in zip(a.views, b.views, strict=True))


@pytest.mark.parametrize("score_size", [None, 15])
def test_threads_end_in_every_case(photos: Path, score_size: int | None) -> None:
    class Broken(hvs.Objective):
        def encode(self, pixels: Tensor) -> Tensor:
            raise ZeroDivisionError

    def at_work() -> list[str]:
        gc.collect()
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("hvs-loader")]

    selector = hvs.HardViewSelector(hvs.objectives.SimSiam(Toy()), score_size=score_size)
    for _ in hvs.HardViewLoader(candidates_loader(photos), selector):
        break
    assert at_work() == []
    with pytest.raises(ZeroDivisionError):
        list(hvs.HardViewLoader(candidates_loader(photos), hvs.HardViewSelector(Broken(), score_size=score_size)))
    assert at_work() == []


def test_a_model_that_returns_the_wrong_shape_is_named(photos: Path) -> None:
    class Mean(hvs.Objective):
        def encode(self, pixels: Tensor) -> Tensor:
            return pixels.mean()

    with pytest.raises(SelectionError, match="first axis N = 32"):
        next(iter(hvs.HardViewLoader(candidates_loader(photos), hvs.HardViewSelector(Mean()))))


def test_arguments_that_mean_nothing_are_refused(photos: Path) -> None:
    selector = hvs.HardViewSelector(hvs.objectives.SimSiam(Toy()))
    loader = candidates_loader(photos)
    with pytest.raises(HvsError, match="expected a ViewLoader"):
        hvs.HardViewLoader([1, 2], selector)  # type: ignore[arg-type]
    with pytest.raises(HvsError, match="expected a HardViewSelector"):
        hvs.HardViewLoader(loader, hvs.objectives.SimSiam(Toy()))  # type: ignore[arg-type]
    one = hvs.recipes.Recipe("one", (hvs.recipes.Role(candidates=1, emitted=1, size=24),))
    with pytest.raises(HvsError, match="at least 2 candidates"):
        hvs.HardViewLoader(hvs.ViewLoader(photos, one, batch_size=4), selector)


class Ahead:
    """As a wrapper that keeps the next batch ready, whose trainer trains on weights a step younger than those that chose."""

    def __init__(self, loader: Iterable[Any]):
        self.loader = loader

    def __iter__(self) -> Any:
        batches = iter(self.loader)
        ready = next(batches)
        for following in batches:
            yield ready
            ready = following
        yield ready


def test_a_trainer_that_looks_ahead_is_told(photos: Path) -> None:
    model = Toy()
    hard = hvs.HardViewLoader(candidates_loader(photos, batch_size=3), hvs.HardViewSelector(hvs.objectives.SimSiam(model)))
    with pytest.warns(hvs.StaleSelectionWarning, match="it fetches 1 ahead"):
        train(model, Ahead(hard))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, hard)
    assert not any(parameter._post_accumulate_grad_hooks for parameter in model.parameters())


def test_a_selection_is_fresh_until_the_weights_change(photos: Path) -> None:
    model = Toy()
    selector = hvs.HardViewSelector(hvs.objectives.SimSiam(model))
    batch = next(iter(hvs.HardViewLoader(candidates_loader(photos), selector)))
    assert selector.is_fresh(batch.selection)
    train(model, [batch])
    assert not selector.is_fresh(batch.selection)
    unscored = hvs.HardViewSelector(hvs.objectives.SimSiam(model), policy="random")
    batch = next(iter(hvs.HardViewLoader(candidates_loader(photos), unscored)))
    train(model, [batch])
    assert batch.selection.weights is None and unscored.is_fresh(batch.selection)


def test_a_witness_sees_the_hardest_pairs_and_stale_ones(photos: Path) -> None:
    def losses_of(modules: Any, candidates: list[Tensor]) -> Tensor:
        z = modules["encoder"](torch.cat(candidates)).unflatten(0, (len(candidates), -1)).transpose(0, 1)
        p = modules["predictor"](z.transpose(0, 1).flatten(0, 1)).unflatten(0, (len(candidates), -1)).transpose(0, 1)
        cosine_BVV = F.cosine_similarity(p[:, :, None], z[:, None], -1)
        return -(cosine_BVV + cosine_BVV.transpose(1, 2)) / 2

    model = Toy()
    hard = hvs.HardViewLoader(candidates_loader(photos, batch_size=3), hvs.HardViewSelector(hvs.objectives.SimSiam(model)))
    witness = Witness(hard, {"encoder": model.encoder, "predictor": model.predictor}, losses_of)
    train(model, hard)
    assert witness.checked == len(hard) and min(witness.gained) >= 0 and max(witness.gained) > 0
    with pytest.raises(AssertionError, match="before the trainer's forward"):
        train(model, Ahead(hard))


def test_a_format_is_what_is_handed_out(photos: Path) -> None:
    selector = hvs.HardViewSelector(hvs.objectives.SimSiam(Toy()))
    loader = candidates_loader(photos, format=hvs.formats.as_dict)
    assert list(next(iter(loader))) == ["views", "labels", "index"]
    assert list(next(iter(hvs.HardViewLoader(loader, selector)))) == ["views", "labels", "index"]
    own = hvs.HardViewLoader(loader, selector, format=lambda batch: batch.selection.step)
    assert list(own) == [1 + step for step in range(len(own))]  # one batch came from the loader above
    with pytest.raises(HvsError, match="format must be a function"):
        hvs.HardViewLoader(loader, selector, format="tuple")


def test_skipped_batches_are_left_out(photos: Path) -> None:
    def make() -> hvs.HardViewLoader:
        selector = hvs.HardViewSelector(hvs.objectives.SimSiam(Toy()), policy="softmax", every=2)
        return hvs.HardViewLoader(candidates_loader(photos, batch_size=4), selector)

    whole, resumed = make(), make()
    expected = [list(whole), list(whole)]
    resumed.set_epoch(0)
    assert resumed.skip_batches(2) == 2
    for batches, rest in ((expected[0][2:], list(resumed)), (expected[1], list(resumed))):
        for a, b in zip(batches, rest, strict=True):
            assert torch.equal(a.index, b.index) and torch.equal(a.selection.pair, b.selection.pair) and a.epoch == b.epoch
    assert resumed.skip_batches(99) == len(resumed) and list(resumed) == []
    with pytest.raises(HvsError, match="count must be a whole number"):
        resumed.skip_batches(-1)


@pytest.mark.parametrize(("drop_last", "expected"), [(False, [5, 4, 3, 2, 1, 0]), (True, [4, 3, 2, 1, 0])])
def test_a_batch_knows_how_many_come_after_it(drop_last: bool, expected: list[int], photos: Path) -> None:
    loader = hvs.HardViewLoader(
        candidates_loader(photos, batch_size=4, drop_last=drop_last), hvs.HardViewSelector(hvs.objectives.SimSiam(Toy()))
    )
    assert [loader.batches_left for _ in loader] == expected
    assert loader.batches_left == len(loader)  # of the next epoch
    assert loader.skip_batches(2) == 2 and [loader.batches_left for _ in loader] == expected[2:]


def test_there_is_no_batch_sampler_to_build_another_loader_with(photos: Path) -> None:
    loader = hvs.HardViewLoader(candidates_loader(photos), hvs.HardViewSelector(hvs.objectives.SimSiam(Toy())))
    for each in (loader, loader.loader):
        with pytest.raises(AttributeError, match=r"call loader\.skip_batches\(n\)"):
            each.batch_sampler  # noqa: B018


@pytest.mark.parametrize(
    "options", [{"score_size": 0.5}, {"score_size": 12}, {"score_size": 0.5, "prefilter": 3}, {"score_size": {"view": 0.5}}]
)
def test_a_share_of_the_size_is_taken_once(photos: Path, options: dict[str, Any]) -> None:
    model, seen = Toy(), []
    model.encoder.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0].shape[-1]))
    selector = hvs.HardViewSelector(hvs.objectives.SimSiam(model), **options)
    batch = next(iter(hvs.HardViewLoader(candidates_loader(photos), selector)))
    assert set(seen) == {12} and all(view.shape[-1] == 24 for view in batch.views)
    seen.clear()
    candidates = next(iter(candidates_loader(photos)))
    hvs.HardViewSelector(hvs.objectives.SimSiam(model), **options).select(candidates.views, candidates.params)
    assert set(seen) == {12}
