"""Local views that rows choose, on their way through a loader: the same as from rendered candidates, after a resume, and on all ranks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hvs_data as hvs
from hvs_data.types import Batch

RECIPE = hvs.recipes.dino(candidates=4, local_candidates=6, local_views=2, size=24, local_size=12)


class Network(nn.Module):
    """Logits in float64: rounding decides nothing."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6)
        ).double()

    def forward(self, pixels: Tensor) -> Tensor:
        return self.layers(pixels.double())


class Trainer:
    def __init__(self) -> None:
        self.student, self.teacher = Network(0), Network(1)
        self.objective = hvs.objectives.DINO(self.student, self.teacher, torch.zeros(6, dtype=torch.float64), 0.1)

    def step(self, views: list[Tensor]) -> None:
        loss = sum(self.student(view).log_softmax(1).square().mean() for view in views)
        self.student.zero_grad()
        loss.backward()
        with torch.no_grad():
            for weight in self.student.parameters():
                weight -= 0.01 * weight.grad


@pytest.fixture(autouse=True)
def soon_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvs_data.selection.geometry.ENOUGH_PAIRS", 12)
    monkeypatch.setattr("hvs_data.selection.plan.FIT_EVERY", 5)


def loader_of(photos: Path, trainer: Trainer, loader: dict[str, Any] | None = None, **options: Any) -> hvs.HardViewLoader:
    plain = hvs.ViewLoader(photos, RECIPE, **{"batch_size": 4, "seed": 3, "num_threads": 2, **(loader or {})})
    return hvs.HardViewLoader(plain, hvs.HardViewSelector(trainer.objective, prefilter=2, **options))


def steps(hard: hvs.HardViewLoader, trainer: Trainer, count: int) -> Iterator[Batch]:
    while count:
        for batch in hard:
            trainer.step(batch.views)
            count -= 1
            yield batch
            if not count:
                return


def same(a: Batch, b: Batch) -> bool:
    assert a.selection is not None and b.selection is not None
    return torch.equal(a.selection.slots, b.selection.slots) and all(torch.equal(x, y) for x, y in zip(a.views, b.views, strict=True))


@pytest.mark.parametrize("options", [{}, {"score_size": 0.5}, {"policy": "easiest"}, {"allowed": hvs.rules.MinIoU(0.3)}], ids=str)
def test_a_batch_is_what_rendering_everything_would_give(photos: Path, options: dict[str, Any]) -> None:
    mine, theirs = Trainer(), Trainer()
    hard = loader_of(photos, mine, **options)
    selector = hvs.HardViewSelector(theirs.objective, prefilter=2, **options)
    plain = hvs.ViewLoader(photos, RECIPE, batch_size=4, seed=3)
    by_rows = 0
    batches = steps(hard, mine, 24)
    for _ in range(4):
        for given in plain:
            batch = next(batches)
            asks = selector.scores(selector.step)
            candidates: Any = given.views if asks else None
            if asks and "score_size" in options:
                images = hvs.decode([(photos / plain.dataset.names[index]).read_bytes() for index in given.index.tolist()])
                sizes = selector.score_sizes(given.params.role, given.params.size)
                candidates = [hvs.render(images, given.params.views([slot]), size=size)[:, 0] for slot, size in enumerate(sizes)]
            slots = selector.select(candidates, given.params).slots
            assert torch.equal(batch.selection.slots, slots) and batch.selection.scored == asks
            for view, column in zip(batch.views, slots.T.tolist(), strict=True):
                assert torch.equal(view, torch.stack([given.views[slot][b] for b, slot in enumerate(column)]))
            theirs.step(batch.views)
            by_rows += not asks and slots[:, 2:].tolist() != [[4, 5]] * len(slots)
    assert by_rows > 12 and hard.selector.local_geometry.weights["iou"] != -1


@pytest.mark.parametrize("options", [{}, {"policy": "easiest"}], ids=str)
def test_resuming_in_the_middle_is_exact(photos: Path, options: dict[str, Any]) -> None:
    whole = Trainer()
    expected = list(steps(loader_of(photos, whole, **options), whole, 30))
    trainer = Trainer()
    first = loader_of(photos, trainer, **options)
    got = list(steps(first, trainer, 16))
    resumed = loader_of(photos, trainer, {"prefetch": 4, "num_threads": 1}, **options)
    resumed.load_state_dict(first.state_dict())
    got += list(steps(resumed, trainer, 14))
    assert all(same(a, b) for a, b in zip(got, expected, strict=True))


def test_prefetching_further_waits_longer_for_both_fits(photos: Path) -> None:
    hard = loader_of(photos, Trainer(), {"prefetch": 20})
    assert hard.selector.geometry.delay == hard.selector.local_geometry.delay == 21


def test_ranks_make_the_same_forwards_and_each_its_own_choice(photos: Path) -> None:
    asked = []
    for rank in range(2):
        trainer = Trainer()
        hard = loader_of(photos, trainer, {"rank": rank, "world_size": 2, "drop_last": True})
        asked.append([batch.selection.scored for batch in steps(hard, trainer, 12)])
    assert asked[0] == asked[1]
