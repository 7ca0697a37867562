"""Networks that train on their own choices: an exact setting stays exact, and choosing for a look leaves the training alone."""

from __future__ import annotations

import json

import pytest
import torch

import closed_loop
import hvs_data as hvs
from harness.pretraining.arms import Arm
from harness.pretraining.methods import Sizes
from harness.pretraining.training import Setup, Training

SETUP = Setup("simsiam", Sizes(view=16, width=8, stem_stride=2, batch=3, learning_rate=0.05))


def test_the_exact_choice_captures_all_of_its_own_gap(photo_folder):
    points = closed_loop.curve(SETUP, Arm("", 4), hvs.open_source(str(photo_folder)), (1, 3), 2, seed=0)
    assert [point["step"] for point in points] == [1, 3]
    # float32 losses of the selector against the same ones in float64
    assert [point["of_four"] for point in points] == pytest.approx([1, 1], abs=1e-4)


def test_looking_at_choices_leaves_the_training_as_it_is(photo_folder):
    arm, source = Arm("", 6, {"prefilter": 3}), hvs.open_source(str(photo_folder))
    training = Training(SETUP, arm, source, 8, 0)
    for step in training.run():
        if step == 4:
            break
    selector = training.loader.selector
    before = json.dumps(selector.state_dict()), [weight.clone() for weight in training.method.model.state_dict().values()]
    loader = hvs.ViewLoader(source, training.method.recipe(6), 3, drop_last=True)
    first, second = (closed_loop.choices(training, arm, loader, 1)[0] for _ in range(2) if not loader.set_epoch(7))
    assert torch.equal(first, second)
    assert json.dumps(selector.state_dict()) == before[0]
    assert all(torch.equal(a, b) for a, b in zip(before[1], training.method.model.state_dict().values(), strict=True))


def test_a_quick_run_writes_a_complete_result(photo_folder, tmp_path, capsys):
    arguments = ["--data", str(photo_folder), "--quick", "--threads", "1", "--out", str(tmp_path), "--settings", "cheap, 8 views"]
    assert closed_loop.main(arguments) == 0
    (path,) = tmp_path.rglob("closed_loop_simsiam.json")
    result = json.loads(path.read_text())
    assert [point["step"] for point in result["curves"][0]["points"]] == [2, 4]
    assert "cheap, 8 views" in capsys.readouterr().out
