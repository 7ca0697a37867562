"""Hardest global and local views from files: the batch that DINO's and iBOT's loops expect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hvs_data as hvs
from distillers import MaskedHead, MaskedMultiCrop, PatchBackbone, dino_loss, patch_loss, quiet, rounding
from hvs_data.recipes import Masking, Recipe
from multi_crop import make_recipe

SIDES = (16, 8)
RECIPE = make_recipe(sides=SIDES, masking=Masking(patch_size=2))


def make_loaders(photos: Path, recipe: Recipe = RECIPE, **options: Any) -> tuple[hvs.HardViewLoader, hvs.ViewLoader]:
    torch.manual_seed(0)
    student, teacher = (MaskedMultiCrop(PatchBackbone(masked), MaskedHead(False)).double() for masked in (True, False))
    center, patch_center = torch.zeros(20), torch.zeros(12)
    objective = hvs.objectives.IBOT(student, teacher, center, patch_center, 0.04, 0.07, patch_size=2)
    loaders = [hvs.ViewLoader(photos, recipe, batch_size=5, seed=1, drop_last=True, num_threads=1) for _ in range(2)]
    return hvs.HardViewLoader(loaders[0], hvs.HardViewSelector(objective, **options)), loaders[1]


@pytest.mark.parametrize("options", [{}, {"score_size": 8}, {"every": 2}, {"policy": "smallest_iou"}], ids=str)
def test_a_batch_holds_the_chosen_views_and_their_masks(photos: Path, options: dict[str, Any]) -> None:
    hard, plain = make_loaders(photos, **options)
    batches = 0
    for batch, candidates in zip(hard, plain, strict=True):
        views, labels, masks = batch
        assert [tuple(view.shape) for view in views] == [(5, 3, 16, 16)] * 2 + [(5, 3, 8, 8)] * 3
        assert batch.selection is not None and batch.params.mask is not None
        assert torch.equal(labels, candidates.labels) and torch.equal(batch.index, candidates.index)
        slots = batch.selection.slots
        assert (
            slots.shape == (5, 5)
            and (slots[:, 0] < 2).all()
            and ((slots[:, 1] >= 2) & (slots[:, 1] < 4)).all()
            and (slots[:, 2:] >= 4).all()
        )
        assert (slots[:, 2:].diff(dim=1) > 0).all()
        for image in range(5):
            for place, slot in enumerate(slots[image].tolist()):
                # rendered again or picked, the pixels are those of the candidate at its own size
                assert torch.equal(views[place][image], candidates.views[slot][image])
                if place < 2:
                    assert torch.equal(masks[place][image], batch.params.mask[image, slot])
        assert len(masks) == 2
        scored = options.get("policy") is None and batches % options.get("every", 1) == 0
        assert batch.selection.scored is scored and batch.selection.step == batches
        batches += 1
    assert batches == 4


@pytest.mark.parametrize("recipe", [RECIPE, RECIPE.with_shared("color"), RECIPE.with_shared("crop")], ids=["apart", "color", "crop"])
def test_the_official_loops_loss_of_the_batch_is_the_loss_that_was_selected(photos: Path, recipe: Recipe) -> None:
    hard, _ = make_loaders(photos, recipe)
    objective = hard.selector.objective
    assert isinstance(objective, hvs.objectives.IBOT)
    (student,), (teacher,) = objective.student, objective.teacher
    assert isinstance(student, nn.Module) and isinstance(teacher, nn.Module)
    batches = 0
    for batch in hard:
        images, _, masks = batch
        with quiet(nn.ModuleList([student, teacher])):
            teacher_class, teacher_patch = teacher(images[:2])
            student_class, student_patch = student(images[:2], mask=masks[:2])
            student.backbone.masked_im_modeling = False
            local_class = student(images[2:])[0]
            student.backbone.masked_im_modeling = True
        classes = dino_loss(teacher_class.chunk(2), [*student_class.chunk(2), *local_class.chunk(3)], objective.center)
        patches = patch_loss(teacher_patch.chunk(2), student_patch.chunk(2), masks, objective.patch_center)
        assert batch.selection is not None
        # in float64, networks included; the selection gives its loss as float32
        np.testing.assert_allclose(batch.selection.loss, classes + patches, rtol=2.0**-24, atol=rounding(0.04, 0.1, 10, 20) * 2.0**-20)
        batches += 1
    assert batches == 4
