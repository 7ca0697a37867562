"""A training that is broken off goes on; its schedule, its history and how it ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import hvs_data as hvs
from harness.data import images
from harness.pretraining import arms
from harness.pretraining.comparison import SIZES
from harness.pretraining.training import COLUMNS, History, Setup, Training, schedule


@pytest.mark.parametrize("method", ["simsiam", "simclr", "byol", "dino"])
@pytest.mark.parametrize("arm", ["random", "jointcrop"])
def test_a_training_that_is_broken_off_goes_on_as_if_it_had_not_been(method: str, arm: str, classes: Path, tmp_path: Path) -> None:
    arm = arm if arm in arms.arms_of(method) else "hardest"
    torch.set_num_threads(1)
    sizes = SIZES[method]
    setup = Setup(method, replace(sizes, view=16, width=8, batch=6))
    split = images.open_split(str(classes))

    def training() -> Training:
        return Training(setup, arms.ARMS[arm], split.train, steps=9, seed=1)

    whole = training()
    assert list(whole.run()) == list(range(1, 10))
    first = training()
    for step in first.run():
        if step == 4:
            break
    first.save(tmp_path / "saved.pt")
    second = training()
    second.load(tmp_path / "saved.pt")
    assert list(second.run()) == list(range(5, 10))
    assert second.columns.keys() == whole.columns.keys()
    for name in COLUMNS:
        np.testing.assert_array_equal(second.columns[name], whole.columns[name])
    for mine, its in zip(second.method.model.state_dict().values(), whole.method.model.state_dict().values(), strict=True):
        assert torch.equal(mine, its)


def test_the_learning_rate_rises_and_falls_to_nothing() -> None:
    rates = [schedule(step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(1 / 5) and rates[4] == rates[5] == 1 and rates[100] == pytest.approx(0)
    assert all(later < earlier for earlier, later in zip(rates[5:], rates[6:], strict=False))


def test_a_history_is_the_mean_of_stretches() -> None:
    columns = {"loss": [1.0, 2.0, 3.0, 4.0, 5.0], "other_iou": [float("nan")] * 3 + [1.0, 2.0]}
    assert History.of(columns, bins=2) == History([2, 5], {"loss": [1.5, 4.0], "other_iou": [None, 1.5]})
    assert History.of({"loss": [3.0]}, bins=4) == History([1], {"loss": [3.0]})


def test_a_loss_that_is_not_finite_ends_a_training(classes: Path) -> None:
    setup = Setup("simsiam", replace(SIZES["simsiam"], view=16, width=8, batch=6, learning_rate=1e30))
    training = Training(setup, arms.ARMS["vanilla"], images.open_split(str(classes)).train, steps=20, seed=0)
    with pytest.raises(hvs.HvsError, match="finite"):
        list(training.run())
