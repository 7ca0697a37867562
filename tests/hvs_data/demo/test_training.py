"""The training loop and its records."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch import Tensor

import hvs_data as hvs
from hvs_data.demo.model import SimSiam
from hvs_data.demo.photos import open_photos
from hvs_data.demo.records import StepRecord
from hvs_data.demo.timing import TimedSelector
from hvs_data.demo.training import pretrain, views_of

from .conftest import TINY


@pytest.fixture(scope="module")
def steps(labelled: Path) -> list[tuple[StepRecord, hvs.Batch]]:
    torch.manual_seed(0)
    return list(pretrain(open_photos(labelled).source, SimSiam(width=8, dimensions=16), replace(TINY, max_steps=5)))


def test_a_run_ends_after_its_steps(steps: list[tuple[StepRecord, hvs.Batch]]) -> None:
    # 24 photos are three batches of 8 an epoch
    assert [record.step for record, _ in steps] == [1, 2, 3, 4, 5]
    assert [record.epoch for record, _ in steps] == [0, 0, 0, 1, 1]
    assert all(record.images == 8 for record, _ in steps)


def test_a_run_ends_when_its_time_is_up(labelled: Path) -> None:
    settings = replace(TINY, seconds=1e-3, max_steps=None)
    (step,) = pretrain(open_photos(labelled).source, SimSiam(width=8, dimensions=16), settings)
    assert step[0].elapsed > settings.seconds


def test_the_learning_rate_falls_along_a_cosine(steps: list[tuple[StepRecord, hvs.Batch]]) -> None:
    rates = [record.learning_rate for record, _ in steps]
    assert 0.9 * TINY.learning_rate < rates[0] <= TINY.learning_rate
    assert all(later < earlier for earlier, later in zip(rates, rates[1:], strict=False))
    # four of five steps are over when the last one begins: (1 + cos(4/5 pi)) / 2 = 0.095
    assert rates[-1] <= 0.0955 * TINY.learning_rate


def test_records_tell_the_chosen_pairs_from_the_others(steps: list[tuple[StepRecord, hvs.Batch]]) -> None:
    for record, batch in steps:
        selection = batch.selection
        assert selection is not None
        chosen_iou, other_iou, chosen_loss, losses = [], [], [], []
        for image, table in enumerate(hvs.iou(batch.params)):
            for pair in combinations(range(4), 2):
                is_chosen = list(pair) == selection.pair[image].tolist()
                (chosen_iou if is_chosen else other_iou).append(table[pair].item())
                losses.append(selection.losses[image][pair].item())
                chosen_loss += [losses[-1]] if is_chosen else []
        # means of at most 48 float32 numbers of at most 1, summed in another order
        near = 48 * torch.finfo(torch.float32).eps
        assert record.chosen_iou == pytest.approx(sum(chosen_iou) / 8, abs=near)
        assert record.other_iou == pytest.approx(sum(other_iou) / 40, abs=near)
        assert record.chosen_loss == pytest.approx(sum(chosen_loss) / 8, abs=near)
        assert record.mean_loss == pytest.approx(sum(losses) / 48, abs=near)
        assert record.chosen_loss > record.mean_loss


def test_the_parts_of_the_time_add_up(steps: list[tuple[StepRecord, hvs.Batch]]) -> None:
    total = 0.0
    for record, _ in steps:
        assert min(record.view_seconds, record.select_seconds, record.train_seconds) > 0
        total += record.seconds
        # floats near one second, a few dozen of them
        assert record.elapsed == pytest.approx(total, abs=1e-9)


def test_a_step_trains_the_model(labelled: Path) -> None:
    model = SimSiam(width=8, dimensions=16)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    next(pretrain(open_photos(labelled).source, model, TINY))
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True) if new.grad is not None)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_loss_that_is_not_finite_stops_the_run(labelled: Path) -> None:
    class Broken(SimSiam):
        def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
            p, z = super().forward(pixels)
            return p * torch.inf, z

    with pytest.raises(hvs.HvsError, match="expected a finite training loss, got nan in step 1; lower the learning rate"):
        next(pretrain(open_photos(labelled).source, Broken(width=8, dimensions=16), TINY))


def test_views_are_gentler_than_published_unless_asked() -> None:
    gentle, published = (views_of(replace(TINY, published_colors=asked)) for asked in (False, True))
    assert published == hvs.recipes.simsiam(candidates=4, size=24)
    (role,), (published_role,) = gentle.roles, published.roles
    assert role.gray == 0 and role.jitter.hue == 0.02 and role.jitter.saturation == 0.2
    assert replace(role, gray=published_role.gray, jitter=published_role.jitter) == published_role


def test_the_selector_counts_its_own_time() -> None:
    selector = TimedSelector(hvs.objectives.SimSiam(SimSiam(width=8, dimensions=16)))
    views = list(torch.randn(3, 4, 3, 16, 16))
    selector.select(views)
    first = selector.seconds
    selector(views)
    assert 0 < first < selector.seconds
