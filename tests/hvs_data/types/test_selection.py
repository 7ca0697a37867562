"""What a selection says of what was chosen."""

from __future__ import annotations

from dataclasses import replace

import torch

import hvs_data as hvs
from hvs_data.types import ViewParams
from small_selections import some_selection


def test_a_selection_reads_loss_and_overlap_of_its_pair(params: ViewParams) -> None:
    selection = some_selection(params)
    overlap = hvs.iou(params)
    assert selection.loss.shape == (5,) and selection.iou is not None and selection.iou.shape == (5,)
    for number, (first, second) in enumerate(selection.pair.tolist()):
        assert selection.loss[number] == selection.losses[number, first, second]
        assert selection.iou[number] == overlap[number, first, second]


def test_a_selection_without_rows_knows_no_overlap() -> None:
    assert some_selection(None).iou is None


def test_of_two_views_the_chosen_slots_are_the_pair(params: ViewParams) -> None:
    selection = some_selection(params)
    assert selection.slots is selection.pair
    assert (selection.policy, selection.scored, selection.step, selection.teacher_outputs) == ("hardest", True, 0, None)


def test_the_loss_of_a_combination_is_the_loss_of_the_selection(params: ViewParams) -> None:
    selection = replace(some_selection(params), combination_loss=torch.arange(5.0))
    assert torch.equal(selection.loss, torch.arange(5.0))
