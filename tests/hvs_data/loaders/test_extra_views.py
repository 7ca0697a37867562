"""Extra views from files: rendered as training needs them, never scored, with their masks, after every resume."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hvs_data as hvs
from hvs_data import SelectionError, formats
from hvs_data.pipelines.reference_engine import ReferenceEngine
from hvs_data.policies import Anchored
from hvs_data.recipes import Masking
from hvs_data.types import Batch
from multi_crop import make_recipe

SIZE, SCORED, EXTRA = 24, 15, 2
RECIPE = hvs.recipes.simsiam(candidates=6, size=SIZE)


class Means(hvs.Objective):
    """Losses without rounding to speak of: distances between views' means. Counts the views that it is shown, by size."""

    def __init__(self) -> None:
        self.model = nn.Flatten()
        self.shown: dict[int, int] = {}

    def encode(self, pixels: Tensor) -> Tensor:
        side = pixels.shape[-1]
        self.shown[side] = self.shown.get(side, 0) + len(pixels)
        return self.model(pixels).double().mean(1, keepdim=True)

    def pair_losses(self, outputs: Tensor) -> Tensor:
        return (outputs - outputs.transpose(1, 2)).abs().float()


class Counting(ReferenceEngine):
    """Counts views by size."""

    def __init__(self) -> None:
        self.views: dict[int, int] = {}

    def render_group(self, images: Any, params: Any, canvas: Any, **options: Any) -> None:
        side = canvas.views()[0].shape[-1]
        self.views[side] = self.views.get(side, 0) + len(images) * params.num_views
        super().render_group(images, params, canvas, **options)


def make(photos: Path, loader: dict[str, Any] | None = None, **options: Any) -> hvs.HardViewLoader:
    plain = hvs.ViewLoader(photos, RECIPE, **{"batch_size": 4, "seed": 3, "num_threads": 2, **(loader or {})})
    return hvs.HardViewLoader(plain, hvs.HardViewSelector(Means(), **{"extra_views": EXTRA, **options}))


def batches(hard: hvs.HardViewLoader, count: int) -> Iterator[Batch]:
    while True:
        for batch in hard:
            yield batch
            count -= 1
            if not count:
                return


OPTIONS: list[dict[str, Any]] = [
    {},
    {"score_size": SCORED},
    {"every": 2, "score_size": SCORED},
    {"policy": "random"},
    {"policy": "smallest_iou"},
    {"prefilter": 3},
    {"prefilter": 3, "score_size": SCORED},
    {"prefilter": 2},
    {"prefilter": 2, "score_size": SCORED, "allowed": hvs.rules.MinIoU(0.3)},
    {"prefilter": 4, "every": 3, "allowed": hvs.rules.MinIoU(0.3)},
    {"policy": "softmax", "probability": 0.5},
]
ANCHORED: dict[str, Any] = {"policy": Anchored(), "prefilter": 3, "every": 2, "score_size": SCORED}


@pytest.mark.parametrize("options", [{**options, "policy": Anchored()} for options in OPTIONS if "policy" not in options], ids=str)
def test_an_anchored_pair_is_rendered_in_its_order(photos: Path, options: dict[str, Any]) -> None:
    hard = make(photos, **options)
    turned = 0
    for batch in batches(hard, 9):
        assert batch.selection is not None
        slots_BK, box_BV4 = batch.selection.slots, batch.params.box.tolist()
        for boxes, slots in zip(box_BV4, slots_BK.tolist(), strict=True):
            areas = [height * width for _, _, height, width in boxes]
            assert slots[0] == areas.index(max(areas)) and slots[2:] == [slot for slot in range(6) if slot not in slots[:2]][:EXTRA]
            turned += slots[0] > slots[1]
        images = hvs.decode([(photos / hard.dataset.names[index]).read_bytes() for index in batch.index.tolist()])
        rendered = hvs.render(images, batch.params.take(slots_BK), size=SIZE)
        assert all(torch.equal(view, rendered[:, k]) for k, view in enumerate(batch.views))
    assert turned > 5


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_views_are_the_pixels_of_the_selected_rows(photos: Path, options: dict[str, Any]) -> None:
    hard, without = make(photos, **options), make(photos, extra_views=0, **options)
    for batch, plain in zip(batches(hard, 9), batches(without, 9), strict=True):
        assert batch.selection is not None and plain.selection is not None
        slots_BK = batch.selection.slots
        assert torch.equal(slots_BK[:, :2], plain.selection.slots) and slots_BK.shape == (len(batch.labels), 4)
        for image in slots_BK.tolist():
            assert image[2:] == [slot for slot in range(6) if slot not in image[:2]][:EXTRA]
        images = hvs.decode([(photos / hard.dataset.names[index]).read_bytes() for index in batch.index.tolist()])
        rendered = hvs.render(images, batch.params.take(slots_BK), size=SIZE)
        assert len(batch.views) == 4 and all(torch.equal(view, rendered[:, k]) for k, view in enumerate(batch.views))
    assert hard.selector.objective.shown == without.selector.objective.shown  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "full", "small"),
    [
        # of 6 steps of 4 images; four views each must reach the trainer
        ({}, 6 * 4 * 6, 0),
        ({"score_size": SCORED}, 6 * 4 * 4, 6 * 4 * 6),
        ({"every": 3}, 2 * (4 * 6) + 4 * (4 * 4), 0),
        ({"policy": "random", "score_size": SCORED}, 6 * 4 * 4, 0),
        ({"prefilter": 3}, 6 * 4 * (3 + EXTRA), 0),
        ({"prefilter": 5}, 6 * 4 * 6, 0),
        ({"prefilter": 3, "score_size": SCORED}, 6 * 4 * 4, 6 * 4 * 3),
    ],
    ids=str,
)
def test_no_view_is_rendered_that_could_not_be_needed(photos: Path, options: dict[str, Any], full: int, small: int) -> None:
    hard, engine = make(photos, {"prefetch": 0, "drop_last": True}, **options), Counting()
    hard.loader._plan = replace(hard.loader._plan, engine=engine)
    assert len(list(batches(hard, 5))) == 5
    next(iter(hard))
    assert engine.views.get(SIZE, 0) == full and engine.views.get(SCORED, 0) == small


@pytest.mark.parametrize("options", [OPTIONS[2], OPTIONS[5], OPTIONS[7], OPTIONS[10], ANCHORED], ids=str)
def test_resuming_in_the_middle_is_exact(photos: Path, options: dict[str, Any]) -> None:
    expected = list(batches(make(photos, **options), 12))
    first = make(photos, **options)
    got = list(batches(first, 8))
    resumed = make(photos, {"prefetch": 4, "num_threads": 1}, **options)
    resumed.load_state_dict(first.state_dict())
    got += list(batches(resumed, 4))
    for mine, whole in zip(got, expected, strict=True):
        assert mine.selection is not None and whole.selection is not None
        assert torch.equal(mine.selection.slots, whole.selection.slots) and torch.equal(mine.index, whole.index)
        assert all(torch.equal(*views) for views in zip(mine.views, whole.views, strict=True))


def test_a_step_that_was_not_foreseen_has_its_extra_views_too(photos: Path) -> None:
    """What is in the making was begun for other steps than those that come."""
    hard = make(photos, every=2, prefilter=3)
    iteration = iter(hard)
    next(iteration)
    hard.selector.step += 1
    for _ in range(3):
        batch = next(iteration)
        images = hvs.decode([(photos / hard.dataset.names[index]).read_bytes() for index in batch.index.tolist()])
        rendered = hvs.render(images, batch.params.take(batch.selection.slots), size=SIZE)
        assert all(torch.equal(view, rendered[:, k]) for k, view in enumerate(batch.views)) and len(batch.views) == 4


class Terms(hvs.objectives.AdditiveObjective):
    """Distances of views' means."""

    def encode(self, pixels: Tensor) -> Any:
        mean_N1 = pixels.double().mean((1, 2, 3))[:, None]
        return mean_N1, mean_N1

    def encode_local(self, pixels: Tensor) -> Any:
        return self.encode(pixels)[0]

    def term_table(self, teacher: Any, student: Any, local: Any, views: int) -> Tensor:
        students = student if local is None else torch.cat([student, local], dim=1)
        return (teacher - students.transpose(1, 2)).abs()


@pytest.mark.parametrize("options", [{}, {"every": 2}, {"score_size": 8}, {"prefilter": 3}], ids=str)
def test_every_global_view_has_its_mask_and_its_name(photos: Path, options: dict[str, Any]) -> None:
    recipe = make_recipe(("global1",) * 3 + ("global2",) * 3, locals_=4, chosen=2, sides=(16, 8), masking=Masking(patch_size=2))
    loaders = [hvs.ViewLoader(photos, recipe, batch_size=5, seed=1, num_threads=1, drop_last=True) for _ in range(2)]
    hard = hvs.HardViewLoader(loaders[0], hvs.HardViewSelector(Terms(), extra_views=3, **options))
    for batch, candidates in zip(hard, loaders[1], strict=True):
        views, _, masks = batch
        assert [view.shape[-1] for view in views] == [16] * 5 + [8] * 2 and len(masks) == 5
        for image, slots in enumerate(batch.selection.slots.tolist()):
            assert [batch.params.role[slot] for slot in slots] == ["global1", "global2"] * 2 + ["global1"] + ["local"] * 2
            for place, slot in enumerate(slots):
                assert torch.equal(views[place][image], candidates.views[slot][image])
                if place < 5:
                    assert torch.equal(masks[place][image], batch.params.mask[image, slot])
        names = list(formats.stable_pretraining(batch)["views"])
        assert names == [f"global_{number}" for number in range(1, 6)] + ["local_1", "local_2"]


def test_a_loader_of_too_few_candidates_is_refused_when_it_is_made(photos: Path) -> None:
    with pytest.raises(SelectionError, match="extra_views=5 expected at least 7 of the role 'view'.*got 6.*candidates="):
        make(photos, extra_views=5)


def test_ranks_hand_out_as_many(photos: Path) -> None:
    shapes = []
    for rank in range(2):
        hard = make(photos, {"rank": rank, "world_size": 2, "drop_last": True}, prefilter=3, every=2)
        shapes.append([(batch.selection.scored, tuple(batch.selection.slots.shape)) for batch in hard])
    assert shapes[0] == shapes[1] and len(shapes[0]) == 2
