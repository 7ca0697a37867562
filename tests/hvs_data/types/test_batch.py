"""What a loader yields unpacks, and moves to a device."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import hvs_data as hvs
from hvs_data.recipes import Masking, ibot
from hvs_data.types import Batch, ViewParams
from small_selections import some_selection


def test_a_batch_of_masked_views_unpacks_with_their_masks() -> None:
    recipe = ibot(candidates=4, masking=Masking())
    params = hvs.sample_views(recipe, seed=0, epoch=0, index=range(5), height=range(200, 205), width=range(300, 305))
    views, selection = [torch.zeros(5, 3, 8, 8)] * 10, some_selection(params)
    batch = Batch(views, torch.arange(5), torch.arange(5), params, selection=selection)
    unpacked_views, labels, masks = batch
    assert unpacked_views is views and labels is batch.labels and len(batch) == 3 and len(masks) == 2
    assert params.mask is not None
    for image, pair in enumerate(selection.pair.tolist()):
        for place, slot in enumerate(pair):
            assert torch.equal(masks[place][image], params.mask[image, slot])
    assert all(torch.equal(mask, expected) for mask, expected in zip(batch[2], masks, strict=True))
    # without selection every view that is not local has one
    masks = replace(batch, selection=None).masks
    assert masks is not None and len(masks) == 4
    assert all(torch.equal(mask, params.mask[:, slot]) for slot, mask in enumerate(masks))


def test_a_batch_unpacks_as_views_and_labels(params: ViewParams) -> None:
    views = [torch.zeros(5, 3, 8, 8), torch.ones(5, 3, 8, 8)]
    batch = Batch(views, torch.arange(5), torch.arange(10, 15), params)
    unpacked_views, labels = batch
    assert unpacked_views is views and labels is batch.labels
    assert batch[0] is views and batch[1] is batch.labels and len(batch) == 2
    with pytest.raises(IndexError):
        batch[2]
    assert batch.epoch == 0 and batch.selection is None and batch.masks is None


def test_to_moves_what_the_trainer_needs_and_leaves_rows_on_the_cpu(params: ViewParams) -> None:
    kept = {"teacher_outputs": (torch.zeros(10), [torch.zeros(10)], {"patch": torch.zeros(10)}), "combination_loss": torch.zeros(5)}
    selection = replace(some_selection(params), **kept)
    batch = Batch([torch.zeros(5, 3, 8, 8)] * 2, torch.arange(5), torch.arange(5), params, epoch=3, selection=selection)
    moved = batch.to("meta")
    assert moved.selection is not None
    chosen = moved.selection
    tensors = [*moved.views, moved.labels, moved.index, chosen.pair, chosen.losses, chosen.legal, chosen.non_finite, chosen.slots]
    first, (second,), third = chosen.teacher_outputs
    tensors += [first, second, third["patch"], chosen.loss]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.params is params and chosen.params is params and moved.epoch == 3
    assert {tensor.device.type for tensor in batch.views} == {"cpu"}
    assert replace(batch, selection=None).to("meta").selection is None
