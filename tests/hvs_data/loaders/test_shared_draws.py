"""Recipes whose candidates share colours or crops: what a loader chooses and renders, by rows joined by hand and a loop over pairs."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hvs_data as hvs
from hvs_data.types import Batch, ViewParams

SIZE, SCORED = 24, 15
HALF = 3
DRAWN_APART = hvs.recipes.simsiam(candidates=2 * HALF, size=SIZE).with_shared("color").with_roles(shared=None)
# Fields of the rows in which views of a role agree.
COLOR = ("brightness", "contrast", "saturation", "hue", "order", "gray", "blur_sigma", "solarize")
AGREE = {"color": COLOR, "crop": ("box", "flip")}


class AsDouble(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.double()


class Toy(nn.Module):
    """A SimSiam model in the small, in float64, and without batch statistics: an image's losses are its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(AsDouble(), nn.Conv2d(3, 8, 5, stride=3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.predictor = nn.Linear(32, 32)
        self.double()

    def train_on(self, views: list[Tensor]) -> None:
        z1, z2 = (self.encoder(view) for view in views)
        loss = F.cosine_similarity(self.predictor(z1), z2.detach()).mean() + F.cosine_similarity(self.predictor(z2), z1.detach()).mean()
        self.zero_grad()
        (-loss).backward()
        with torch.no_grad():
            for weight in self.parameters():
                weight -= 0.1 * weight.grad


def plain_loader(photos: Path, recipe: hvs.recipes.Recipe, **options: Any) -> hvs.ViewLoader:
    return hvs.ViewLoader(photos, recipe, **{"batch_size": 4, "seed": 3, "num_threads": 2, **options})


def hard_loader(photos: Path, shared: str, model: Toy, loader: dict[str, Any] | None = None, **options: Any) -> hvs.HardViewLoader:
    selector = hvs.HardViewSelector(hvs.objectives.SimSiam(model), **options)
    return hvs.HardViewLoader(plain_loader(photos, DRAWN_APART.with_roles(shared=shared), **(loader or {})), selector)


def joined(rows: ViewParams, shared: str) -> ViewParams:
    """Rows that were drawn apart, with what the first candidate of each role has."""
    first_V = torch.tensor([0] * HALF + [HALF] * HALF)
    return replace(rows, **{name: getattr(rows, name)[:, first_V] for name in AGREE[shared]})


def images_of(loader: hvs.ViewLoader, batch: Batch, photos: Path) -> hvs.ImageBatch:
    return hvs.decode([(photos / loader.dataset.names[index]).read_bytes() for index in batch.index.tolist()])


def hardest_by_hand(model: Toy, views_BVCHW: Tensor) -> list[list[int]]:
    """Of every image the pair of one view of each role with the largest loss, each taken in a forward of its own."""
    twin = deepcopy(model).eval()
    pairs = []
    with torch.no_grad():
        for views in views_BVCHW:
            z = [twin.encoder(view[None])[0] for view in views]
            p = [twin.predictor(output) for output in z]
            losses = {}
            for i, j in product(range(HALF), range(HALF, 2 * HALF)):
                cosines = F.cosine_similarity(p[i], z[j], 0) + F.cosine_similarity(p[j], z[i], 0)
                losses[i, j] = float((-cosines / 2).float())  # as a selection has it: candidates without colours to share are equal
            pairs.append(list(max(losses, key=lambda pair: losses[pair])))
    return pairs


@pytest.mark.parametrize("score_size", [None, SCORED])
@pytest.mark.parametrize("shared", ["color", "crop"])
def test_the_hardest_of_places_and_the_hardest_of_colours(photos: Path, shared: str, score_size: int | None) -> None:
    model = Toy()
    hard = hard_loader(photos, shared, model, score_size=score_size)
    taken = set()
    for batch, apart in zip(hard, plain_loader(photos, DRAWN_APART), strict=True):
        rows, images = joined(apart.params, shared), images_of(hard.loader, batch, photos)
        assert all(torch.equal(value, rows.tensors()[name]) for name, value in batch.params.tensors().items())
        scored = hvs.render(images, rows, size=score_size or SIZE)
        expected = hardest_by_hand(model, scored)
        assert batch.selection.pair.tolist() == expected
        # the chosen candidates at their own size, with a blur in its pixels
        full = hvs.render(images, rows.take(torch.tensor(expected)), size=SIZE)
        assert all(torch.equal(view, full[:, side]) for side, view in enumerate(batch.views))
        legal = [[i, j] for i, j in batch.selection.legal.nonzero().tolist()]
        assert legal == [list(pair) for pair in product(range(HALF), range(HALF, 2 * HALF))]
        taken |= set(map(tuple, expected))
        model.train_on(batch.views)
    assert len(taken) > 3


@pytest.mark.parametrize(
    "options",
    [
        {"prefilter": 3},
        {"prefilter": 2, "every": 2},
        {"policy": "smallest_iou"},
        {"policy": hvs.policies.Feasible(min_iou=0.4)},
        {"policy": hvs.policies.TemperedRank(beta=2.0), "seed": 5},
    ],
    ids=str,
)
@pytest.mark.parametrize("shared", ["color", "crop"])
def test_whatever_narrows_or_chooses_is_as_if_all_candidates_had_been_rendered(
    photos: Path, shared: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hvs_data.selection.geometry.ENOUGH_PAIRS", 12)
    model = Toy()
    hard = hard_loader(photos, shared, model, **options)
    selector = hvs.HardViewSelector(hvs.objectives.SimSiam(model), **options)
    plain = plain_loader(photos, DRAWN_APART)
    for _ in range(3):  # past the steps after which rows foretell losses
        for batch, apart in zip(hard, plain, strict=True):
            rows = joined(apart.params, shared)
            views = selector(list(hvs.render(images_of(plain, batch, photos), rows).unbind(1)), rows)
            assert torch.equal(batch.selection.slots, selector.last.slots)
            assert all(torch.equal(ours, expected) for ours, expected in zip(batch.views, views, strict=True))
            model.train_on(batch.views)


@pytest.mark.parametrize("shared", ["color", "crop"])
def test_a_budget_renders_the_chosen_views_of_the_same_rows(photos: Path, shared: str) -> None:
    model = Toy()
    hard, plain = hard_loader(photos, shared, model, budget="balanced"), plain_loader(photos, DRAWN_APART)
    for batch, apart in zip(hard, plain, strict=True):
        rows = joined(apart.params, shared).take(batch.selection.slots)
        expected = hvs.render(images_of(plain, batch, photos), rows)
        assert all(torch.equal(view, expected[:, side]) for side, view in enumerate(batch.views))
        assert batch.selection.scored and (batch.selection.pair // HALF == torch.tensor([0, 1])).all()


def chosen(batches: Iterable[Batch]) -> dict[tuple[int, int], list[int]]:
    return {
        (batch.epoch, index): slots
        for batch in batches
        for index, slots in zip(batch.index.tolist(), batch.selection.slots.tolist(), strict=True)
    }


@pytest.mark.parametrize("shared", ["color", "crop"])
def test_two_ranks_and_a_resumed_run_choose_as_one_run_does(photos: Path, shared: str) -> None:
    model = Toy()
    expected = chosen(hard_loader(photos, shared, model))
    ranks = [chosen(hard_loader(photos, shared, model, {"rank": rank, "world_size": 2})) for rank in range(2)]
    assert not ranks[0].keys() & ranks[1].keys() and ranks[0] | ranks[1] == expected and len(expected) == 22
    first = hard_loader(photos, shared, model)
    begun = chosen(islice(first, 2))
    resumed = hard_loader(photos, shared, model, {"prefetch": 4, "num_threads": 1})
    resumed.load_state_dict(first.state_dict())
    assert len(begun) == 8 and begun | chosen(resumed) == expected
