"""More than two views of an image that reach the trainer, from files: rendered as they were chosen, told, and the same after a resume."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hvs_data as hvs
from hvs_data import formats
from hvs_data.integrations.lightning import statistics_of

SIZE, SCORED, VIEWS = 24, 15, 4
RECIPE = hvs.recipes.simclr(candidates=6, views=VIEWS, size=SIZE)


class Means(hvs.Objective):
    """Distances between views' means, in float64: no rounding to speak of."""

    def __init__(self) -> None:
        self.model = nn.Flatten()

    def encode(self, pixels: Tensor) -> Tensor:
        return self.model(pixels).double().mean(1, keepdim=True)

    def pair_losses(self, outputs: Tensor) -> Tensor:
        return (outputs - outputs.transpose(1, 2)).abs().float()


def make(photos: Path, format: Any = None, **options: Any) -> hvs.HardViewLoader:
    plain = hvs.ViewLoader(photos, RECIPE, batch_size=4, seed=3, num_threads=2, drop_last=True)
    return hvs.HardViewLoader(plain, hvs.HardViewSelector(Means(), **options), format=format)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"score_size": SCORED},
    {"budget": "cheap", "prefilter": None, "every": 2},
    {"prefilter": 5},
    {"policy": "smallest_iou"},
    {"policy": "softmax", "extra_views": 2},
    {"policy": "random", "score_size": SCORED},
    {"allowed": hvs.rules.MinIoU(0.1), "warmup": 2, "score_size": SCORED},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_views_are_the_pixels_of_the_selected_rows_also_after_a_resume(photos: Path, options: dict[str, Any]) -> None:
    hard, first, resumed = (make(photos, **options) for _ in range(3))
    expected = [batch for epoch in range(2) for batch in hard]
    iteration = iter(first)
    next(iteration)
    resumed.load_state_dict(first.state_dict())
    got = [batch for epoch in range(2) for batch in resumed]
    assert len(expected) == len(got) + 1
    for batch, again in zip(expected[1:], got, strict=False):
        selection, extra = batch.selection, options.get("extra_views", 0)
        assert torch.equal(selection.slots, again.selection.slots) and selection.slots.shape == (4, VIEWS + extra)
        images = hvs.decode([(photos / hard.dataset.names[index]).read_bytes() for index in batch.index.tolist()])
        rendered = hvs.render(images, batch.params.take(selection.slots), size=SIZE)
        assert len(batch.views) == VIEWS + extra and all(torch.equal(view, rendered[:, k]) for k, view in enumerate(batch.views))
        assert all(torch.equal(*views) for views in zip(batch.views, again.views, strict=True))


def test_what_is_told_of_them(photos: Path) -> None:
    """By the selection, the callback's statistics and a monitor: means over the pairs of the chosen views."""
    hard = make(photos)
    monitor = hvs.Monitor(hard.selector)
    ious, others, losses = [], [], []
    for batch in hard:
        selection, iou = batch.selection, hvs.iou(batch.params)
        for image, slots in enumerate(selection.slots.tolist()):
            chosen = list(combinations(slots, 2))
            ious.append([float(iou[image][pair]) for pair in chosen])
            others.append([float(iou[image][pair]) for pair in combinations(range(6), 2) if pair not in chosen])
            losses.append([float(selection.losses[image][pair]) for pair in chosen])
        last = torch.tensor(ious[-4:])
        assert torch.allclose(selection.iou, last.mean(1)) and torch.allclose(selection.loss, torch.tensor(losses[-4:]).mean(1))
        assert torch.allclose(statistics_of(selection)["iou"], last.mean())
    numbers = monitor.numbers()
    for name, values in (("iou_chosen", ious), ("iou_other", others), ("loss_chosen", losses)):
        assert numbers[f"hvs/{name}"] == pytest.approx(torch.tensor(values).double().mean().item(), rel=1e-5)


def test_formats_hand_them_out(photos: Path) -> None:
    made = [next(iter(make(photos, format=form))) for form in (formats.views_and_labels, formats.stacked, formats.view_major)]
    assert len(made[0][0]) == VIEWS and made[1][0].shape == (4, VIEWS, 3, SIZE, SIZE) and made[2][0].shape == (4 * VIEWS, 3, SIZE, SIZE)
    assert torch.equal(torch.stack(made[0][0], 1), made[1][0]) and torch.equal(torch.cat(made[0][0]), made[2][0])
    assert set(next(iter(make(photos, format=formats.named_views("a", "b", "c", "d"))))) == {"a", "b", "c", "d", "labels"}
    assert len(next(iter(make(photos, format=formats.stable_pretraining)))["views"]) == VIEWS
