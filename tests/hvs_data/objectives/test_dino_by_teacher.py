"""DINO scored by its teacher alone: the scores of a student that is a copy of the teacher, without a forward of the student."""

import copy

import pytest
import torch
from torch import nn

import hvs_data as hvs
from hvs_data import SelectionError
from hvs_data.objectives import DINO
from multi_crop import make_pixels, make_recipe, make_rows
from small_vits import WIDTH, VisionTransformer
from traces import changes, state_of

RECIPE, IMAGES = make_recipe(locals_=3, chosen=2), 4


class Never(nn.Module):
    def forward(self, x):
        raise AssertionError("the student was called")


def teacher_network():
    torch.manual_seed(5)
    return nn.Sequential(VisionTransformer(depth=2), nn.Linear(WIDTH, 10))


@pytest.mark.parametrize("options", [{}, {"chunk": 9}, {"keep_tokens": 0.5}, {"keep_teacher": True}], ids=str)
def test_the_teacher_stands_for_the_student(options):
    teacher, center = teacher_network(), torch.randn(10, generator=torch.Generator().manual_seed(3))
    pixels, rows = make_pixels(RECIPE, IMAGES), make_rows(RECIPE, IMAGES)
    alone = DINO(Never(), teacher, center, 0.1, 0.2, scored_by="teacher")
    twice = DINO(copy.deepcopy(teacher), teacher, center, 0.1, 0.2)
    before = state_of(teacher)
    found, expected = (hvs.HardViewSelector(objective, **options).select(pixels, rows) for objective in (alone, twice))
    assert changes(before, state_of(teacher)) == set()
    # the same operations on the same batches
    assert torch.equal(found.slots, expected.slots) and torch.equal(found.combination_loss, expected.combination_loss)
    assert (found.teacher_outputs is None) == ("keep_teacher" not in options)
    if found.teacher_outputs is not None:
        assert torch.equal(found.teacher_outputs, expected.teacher_outputs)


def test_compiled_it_makes_the_same_scores():
    torch._dynamo.reset()
    pixels, rows = make_pixels(RECIPE, IMAGES), make_rows(RECIPE, IMAGES)
    objective = DINO(Never(), teacher_network(), None, 0.1, scored_by="teacher")
    plain, compiled = (hvs.HardViewSelector(objective, compile=how).select(pixels, rows) for how in (False, {"backend": "eager"}))
    assert torch.equal(plain.combination_loss, compiled.combination_loss)


def test_other_networks_are_refused():
    with pytest.raises(SelectionError, match=r"scored_by must be one of \('both', 'teacher'\), got 'student'"):
        DINO(Never(), Never(), None, 0.1, scored_by="student")
