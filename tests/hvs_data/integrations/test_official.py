"""docs/examples/dino.py and ibot.py: loops as those of the official repositories, which name epochs, follow schedules and take masks."""

# Axes: B image, V view, K prototype.

from __future__ import annotations

import copy
import gc

import pytest
import torch

from example_scripts import EXAMPLES, falls, write_photos
from hvs_data.errors import SelectionError
from hvs_data.integrations import official
from multi_crop_terms import Candidates, cross_entropy, table_of
from script_twins import run_before, run_script, run_with_random_pairs, run_witnessed

SMALL = ("--batch-size", 8, "--size", 32, 16, "--patch-size", 8, "--out-dim", 64, "--lr", 0.01)
SCRIPTS = ("dino.py", "ibot.py")


@pytest.fixture(autouse=True)
def no_process_group_left_over():
    """In the garbage it would end the next forked worker that collects it, since its threads are missing there."""
    yield
    gc.collect()


def modules_of(objective):
    return {"student": objective.student[0], "teacher": objective.teacher[0]}


def terms_of(seen, networks, views, dtype):
    """The losses' terms by (teacher's view, student's view), [B] each, from networks of a type; for iBOT (i, i) are patch losses."""
    objective, params = seen.objective, seen.batch.params
    networks = {name: copy.deepcopy(network).to(dtype) for name, network in networks.items()}
    masked = params.mask is not None
    is_global = [role != "local" for role in params.role]
    center = objective.center().to(dtype).flatten()
    temperature, student_temperature = objective.teacher_temperature(), objective.student_temperature()
    teacher, student = {}, {}
    for v, view in enumerate(views):
        view = view.to(dtype)
        if is_global[v]:
            teacher[v] = networks["teacher"](view)
            student[v] = networks["student"](view, mask=params.mask[:, v]) if masked else networks["student"](view)
        else:
            if masked:
                networks["student"].backbone.masked_im_modeling = False
            output = networks["student"](view)
            student[v] = output[0] if masked else output
            if masked:
                networks["student"].backbone.masked_im_modeling = True
    found = {}
    for t in teacher:
        for s in student:
            q, p = (teacher[t][0], student[s][0] if is_global[s] else student[s]) if masked else (teacher[t], student[s])
            if t != s:
                found[t, s] = cross_entropy(q, p, center, temperature, student_temperature)
        if masked:
            own = cross_entropy(
                teacher[t][1],
                student[t][1],
                objective.patch_center().to(dtype).flatten(),
                objective.teacher_patch_temperature(),
                student_temperature,
            )
            hidden = params.mask[:, t].flatten(1)
            found[t, t] = (own * hidden).sum(1) / hidden.sum(1).clamp(min=1)
    return found


@pytest.mark.parametrize("script", SCRIPTS)
def test_it_trains_on_the_hardest_views_of_every_step(script, tmp_path):
    seen = Candidates()
    run = run_witnessed(
        script,
        write_photos(tmp_path, 24),
        *("--epochs", 2),
        *SMALL,
        modules_of=modules_of,
        pair_losses=lambda networks, views: table_of(
            seen, *(terms_of(seen, networks, views, dtype) for dtype in (torch.float64, torch.float32))
        ),
        with_batch=seen.remember,
    )
    assert run.witness.checked == len(run.losses) == 6
    assert falls(run.losses)
    assert min(run.witness.gained) >= 0 and sum(run.witness.gained) > 0
    assert run.epochs == [0, 1]


@pytest.mark.parametrize("script", SCRIPTS)
def test_random_views_train_as_the_same_views_in_a_data_loader(script, tmp_path):
    photos = write_photos(tmp_path, 24)
    run = run_with_random_pairs(script, photos, *SMALL)
    assert len(run.losses) == len(run.batches) == 3
    assert run_before(script, run.batches, photos, *SMALL).losses == run.losses


@pytest.mark.parametrize("script", SCRIPTS)
def test_it_ran_before(script, tmp_path):
    run = run_script(EXAMPLES / "before" / script, write_photos(tmp_path, 16), *SMALL)
    assert len(run.losses) == 2 and falls([100.0, *run.losses, -100.0])


class Loss:
    center = torch.zeros(1, 4)
    teacher_temp_schedule = (0.04, 0.05)
    student_temp = 0.1


def test_the_loss_is_read_at_each_scoring_and_never_called():
    loss, now = Loss(), [0]
    objective = official.dino(torch.nn.Identity(), torch.nn.Identity(), loss, lambda: now[0])
    assert objective.teacher_temperature() == 0.04
    now[0], loss.center = 1, torch.ones(1, 4)
    assert objective.teacher_temperature() == 0.05 and objective.center() is loss.center
    now[0] = 2
    with pytest.raises(SelectionError, match="an epoch from 0 to 1"):
        objective.teacher_temperature()


def test_another_loss_is_refused():
    with pytest.raises(SelectionError, match="expected the official DINOLoss .* without center"):
        official.dino(torch.nn.Identity(), torch.nn.Identity(), torch.nn.Identity(), 0)
    with pytest.raises(SelectionError, match="expected the official iBOTLoss .* without center2"):
        official.ibot(torch.nn.Identity(), torch.nn.Identity(), Loss(), 0)
