"""Candidates are rendered only where they are needed, and what is chosen is the same as if all had been."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hvs_data as hvs
from hvs_data.loaders import view_loader
from hvs_data.loaders.device_production import DeviceProduction
from hvs_data.pipelines.reference_engine import ReferenceEngine
from hvs_data.selection.geometry import DELAY
from hvs_data.types import Batch

SIZE, SCORED = 24, 15
RECIPE = hvs.recipes.simsiam(candidates=6, size=SIZE)


class AsDouble(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.double()


class Toy(nn.Module):
    """A SimSiam model in the small, in float64: rounding decides nothing."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(
            AsDouble(), nn.Conv2d(3, 8, 5, stride=3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.predictor = nn.Linear(8, 8)
        self.double()

    def train_on(self, views: list[Tensor]) -> None:
        z1, z2 = (self.encoder(view) for view in views)
        loss = F.cosine_similarity(self.predictor(z1), z2.detach()).mean() + F.cosine_similarity(self.predictor(z2), z1.detach()).mean()
        self.zero_grad()
        (-loss).backward()
        with torch.no_grad():
            for weight in self.parameters():
                weight -= 0.1 * weight.grad


def plain_loader(photos: Path, **options: Any) -> hvs.ViewLoader:
    return hvs.ViewLoader(photos, RECIPE, **{"batch_size": 4, "seed": 3, "num_threads": 2, **options})


def hard_loader(photos: Path, model: Toy, loader: dict[str, Any] | None = None, **options: Any) -> hvs.HardViewLoader:
    selector = hvs.HardViewSelector(hvs.objectives.SimSiam(model), **options)
    selector.geometry.forgetting = 0.9
    return hvs.HardViewLoader(plain_loader(photos, **(loader or {})), selector)


@pytest.fixture(autouse=True)
def soon_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are fitted after a step of this few images, and the model is asked more often for two views."""
    monkeypatch.setattr("hvs_data.selection.geometry.ENOUGH_PAIRS", 12)
    monkeypatch.setattr("hvs_data.selection.plan.FIT_EVERY", 5)


def explicitly(photos: Path, model: Toy, epochs: int, **options: Any) -> Iterator[Batch]:
    """What the loader should give: all candidates rendered at full size, given to a selector, and rendered small for its scores."""
    score_size = options.pop("score_size", None)
    selector = hvs.HardViewSelector(hvs.objectives.SimSiam(model), **options)
    selector.geometry.forgetting = 0.9
    loader = plain_loader(photos)
    for _ in range(epochs):
        for batch in loader:
            if score_size is None:
                views = selector(batch.views, batch.params)
            else:
                images = hvs.decode([(photos / loader.dataset.names[index]).read_bytes() for index in batch.index.tolist()])
                small = hvs.render(images, batch.params, size=score_size)
                slots_BK = selector.select(small, batch.params).slots
                views = [torch.stack([batch.views[slot][b] for b, slot in enumerate(column)]) for column in slots_BK.T.tolist()]
            yield replace(batch, views=views, selection=selector.last)


def same(a: Batch, b: Batch) -> bool:
    assert a.selection is not None and b.selection is not None
    pairs = [*zip(a.views, b.views, strict=True), (a.labels, b.labels), (a.index, b.index)]
    pairs += [(a.selection.slots, b.selection.slots), (a.selection.losses.nan_to_num(9), b.selection.losses.nan_to_num(9))]
    told = [(x.epoch, x.selection.step, x.selection.policy, x.selection.scored) for x in (a, b)]
    rows = all(torch.equal(value, b.params.tensors()[name]) for name, value in a.params.tensors().items())
    return told[0] == told[1] and rows and all(torch.equal(x, y) for x, y in pairs)


OPTIONS: list[dict[str, Any]] = [
    {"prefilter": 3},
    {"prefilter": 3, "score_size": SCORED},
    {"prefilter": 2},
    {"prefilter": 2, "score_size": SCORED},
    {"prefilter": 4, "policy": "easiest", "every": 2, "score_size": SCORED},
    {"every": 3, "score_size": SCORED},
    {"every": 2},
    {"probability": 0.5, "warmup": 2, "score_size": SCORED},
    {"policy": "random", "score_size": SCORED},
    {"policy": "smallest_iou", "score_size": SCORED},
    {"policy": "smallest_iou", "every": 2},
]
# A rule on rows that some images' first and most promising pairs break, and that leaves some images without a pair.
ALLOWED = hvs.rules.MinIoU(0.5) & hvs.rules.MinArea(0.4)
RULED: list[dict[str, Any]] = [
    {"prefilter": 3, "score_size": SCORED, "allowed": ALLOWED},
    {"prefilter": 2, "allowed": ALLOWED},
    {"every": 3, "score_size": SCORED, "allowed": ALLOWED},
    {"policy": "smallest_iou", "every": 2, "allowed": ALLOWED},
    {"policy": "random", "allowed": ALLOWED},
]


def obeys(batch: Batch) -> bool:
    """Whether every image's pair is allowed, or the first where none is."""
    assert batch.selection is not None
    pairs = [tuple(pair) for pair in batch.selection.pair.tolist()]
    tables = ALLOWED(batch.params) & batch.selection.legal
    return all(bool(table[pair]) if table.any() else pair == (0, 1) for table, pair in zip(tables, pairs, strict=True))


@pytest.mark.parametrize("options", [*OPTIONS, *RULED], ids=str)
def test_a_batch_is_what_rendering_everything_would_give(photos: Path, options: dict[str, Any]) -> None:
    mine, theirs = Toy(), Toy()
    loader = hard_loader(photos, mine, **options)
    explicit = explicitly(photos, theirs, 4, **options)
    steps = 0
    for _ in range(4):
        for batch in loader:
            expected = next(explicit)
            assert same(batch, expected) and ("allowed" not in options or obeys(batch))
            mine.train_on(batch.views)
            theirs.train_on(expected.views)
            steps += 1
    assert steps == 24 > DELAY and next(explicit, None) is None
    if "prefilter" in options:
        assert loader.selector.geometry.at(steps) == loader.selector.geometry.at(steps) and loader.selector.geometry.weights["iou"] != -1


class PlainLane:
    """A lane of the CPU itself."""

    device = torch.device("cpu")

    def host_memory(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8)

    def working(self) -> Any:
        return nullcontext()

    def to_device(self, tensor: Tensor) -> Tensor:
        return tensor.clone()

    def mark(self) -> None: ...

    def hand_over(self, mark: None, tensors: Any) -> None: ...


class Counting(ReferenceEngine):
    """Counts views by size."""

    def __init__(self) -> None:
        self.views: dict[int, int] = {}

    def render_group(self, images: Any, params: Any, canvas: Any, **options: Any) -> None:
        side = canvas.views()[0].shape[-1]
        self.views[side] = self.views.get(side, 0) + len(images) * params.num_views
        super().render_group(images, params, canvas, **options)


@pytest.mark.parametrize(
    ("options", "full", "small"),
    [
        # of 12 steps of 4 images; two views each must reach the trainer
        ({}, 12 * 4 * 6, 0),
        ({"score_size": SCORED}, 12 * 4 * 2, 12 * 4 * 6),
        ({"every": 3}, 4 * (4 * 6) + 8 * (4 * 2), 0),
        ({"every": 3, "score_size": SCORED}, 12 * 4 * 2, 4 * 4 * 6),
        ({"policy": "random", "score_size": SCORED}, 12 * 4 * 2, 0),
        ({"policy": "smallest_iou"}, 12 * 4 * 2, 0),
        ({"warmup": 100, "score_size": SCORED}, 12 * 4 * 2, 0),
        ({"prefilter": 3}, 12 * 4 * 3, 0),
        ({"prefilter": 3, "score_size": SCORED}, 12 * 4 * 2, 12 * 4 * 3),
        ({"prefilter": 2}, 3 * (4 * 4) + 9 * (4 * 2), 0),  # steps 0, 5 and 10 score four views
        ({"prefilter": 2, "score_size": SCORED}, 12 * 4 * 2, 3 * 4 * 4),
    ],
    ids=str,
)
def test_no_view_is_rendered_that_is_not_needed(photos: Path, options: dict[str, Any], full: int, small: int) -> None:
    engine = Counting()
    hard = hard_loader(photos, Toy(), {"prefetch": 0}, **options)
    hard.loader._plan = replace(hard.loader._plan, engine=engine)
    batches = [batch for _ in range(3) for batch in islice(hard, 4)]
    assert engine.views.get(SIZE, 0) == full and engine.views.get(SCORED, 0) == small
    ahead = hard_loader(photos, Toy(), **options)
    ahead.loader._plan = replace(ahead.loader._plan, engine=Counting())
    assert all(same(a, b) for a, b in zip(batches, [batch for _ in range(3) for batch in islice(ahead, 4)], strict=True))


def test_whatever_moves_the_selector_nothing_wrong_is_chosen(photos: Path) -> None:
    """Steps that are not those for which a batch was made: skipped ones, a state that is loaded, and a second iteration."""
    model = Toy()
    for options in ({"prefilter": 3, "score_size": SCORED}, {"prefilter": 2}, {"every": 3}, {"policy": "smallest_iou", "every": 2}):
        hard = hard_loader(photos, model, **options)
        twin = hvs.HardViewSelector(hvs.objectives.SimSiam(model), **options)
        twin.geometry.forgetting = 0.9
        next(iter(hard))
        twin.load_state_dict(hard.selector.state_dict())
        iterations = [iter(hard), iter(hard)]
        plain = plain_loader(photos)
        candidates = [list(plain), list(plain), list(plain)]
        for number in range(5):
            for which, iteration in enumerate(iterations):
                if number == 2 and which == 0:
                    for selector in (hard.selector, twin):
                        selector.step += 7
                batch = next(iteration)
                given = candidates[1 + which][number]
                assert torch.equal(batch.index, given.index)
                if options.get("score_size"):
                    images = hvs.decode([(photos / plain.dataset.names[index]).read_bytes() for index in given.index.tolist()])
                    twin.select(hvs.render(images, given.params, size=SCORED), given.params)
                else:
                    twin.select(given.views, given.params)
                assert twin.last is not None
                assert torch.equal(batch.selection.slots, twin.last.slots) and batch.selection.step == twin.last.step
                for k, view in enumerate(batch.views):
                    slots = batch.selection.slots[:, k].tolist()
                    assert torch.equal(view, torch.stack([given.views[slot][b] for b, slot in enumerate(slots)]))


@pytest.mark.parametrize("options", [*OPTIONS[:5], *RULED, {"policy": "unforetold"}], ids=str)
def test_resuming_in_the_middle_is_exact(photos: Path, options: dict[str, Any]) -> None:
    def steps(hard: hvs.HardViewLoader, model: Toy, count: int) -> Iterator[Batch]:
        while count:
            for batch in hard:
                model.train_on(batch.views)
                count -= 1
                yield batch
                if not count:
                    return

    whole = Toy()
    expected = list(steps(hard_loader(photos, whole, **options), whole, 30))
    first = Toy()
    loader = hard_loader(photos, first, **options)
    got = list(steps(loader, first, 16))  # the fourth batch of the third epoch
    state = loader.state_dict()
    second = deepcopy(first)
    resumed = hard_loader(photos, second, {"prefetch": 4, "num_threads": 1}, **options)  # neither of which matters
    resumed.load_state_dict(state)
    got += list(steps(resumed, second, 14))
    assert all(same(a, b) for a, b in zip(got, expected, strict=True))


def test_more_prefetching_than_the_usual_delay_changes_when_losses_count(photos: Path) -> None:
    loader = hard_loader(photos, Toy(), {"prefetch": DELAY + 4}, prefilter=3)
    assert loader.selector.geometry.delay == DELAY + 5
    engine = Counting()
    loader.loader._plan = replace(loader.loader._plan, engine=engine)
    for _ in range(4):
        for batch in loader:
            assert batch.selection.scored
    assert engine.views == {SIZE: 4 * 22 * 3}  # nothing was rendered twice


def test_ranks_make_the_same_forwards(photos: Path) -> None:
    class Counted(hvs.objectives.SimSiam):
        def encode(self, pixels: Tensor) -> Any:
            forwards[-1].append(len(pixels))
            return super().encode(pixels)

    forwards: list[list[int]] = []
    for options in [*OPTIONS[:5], *RULED[:3]]:
        forwards = []
        for rank in range(2):
            forwards.append([])
            loader = plain_loader(photos, rank=rank, world_size=2, drop_last=True)
            for _ in range(4):
                list(hvs.HardViewLoader(loader, hvs.HardViewSelector(Counted(Toy()), **options)))
        assert forwards[0] == forwards[1] and forwards[0]


@pytest.mark.parametrize("options", [*OPTIONS[:4], {"every": 2, "score_size": SCORED}, *RULED[:3]], ids=str)
def test_a_device_renders_the_same(photos: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [batch for loader in [hard_loader(photos, Toy(), **options)] for _ in range(3) for batch in loader]
    monkeypatch.setattr(view_loader, "begin_production", lambda plan, order, **more: DeviceProduction(plan, order, PlainLane(), **more))
    got = [batch for loader in [hard_loader(photos, Toy(), **options)] for _ in range(3) for batch in loader]
    assert len(got) == 18
    assert all(same(a, b) for a, b in zip(got, expected, strict=True))


def test_a_bad_image_s_place_is_filled_with_chosen_views_of_the_next(photos: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(photos.rglob("*.jpg"))):
        data = path.read_bytes()
        (tmp_path / path.name).write_bytes(data[: len(data) // 2] if number == 5 else data)
    model = Toy()
    selector = hvs.HardViewSelector(hvs.objectives.SimSiam(model), prefilter=2)
    loader = hvs.ViewLoader(tmp_path, RECIPE, batch_size=22, shuffle=False)
    hard = hvs.HardViewLoader(loader, selector)
    selector.step = 1  # one that does not score
    batch = next(iter(hard))
    assert 5 not in batch.index.tolist() or hard.counters["bad"] == 0
    images = hvs.decode([(tmp_path / loader.dataset.names[index]).read_bytes() for index in batch.index.tolist()])
    large = hvs.render(images, batch.params.take(batch.selection.slots), size=SIZE)
    assert all(torch.equal(view, large[:, k]) for k, view in enumerate(batch.views))
