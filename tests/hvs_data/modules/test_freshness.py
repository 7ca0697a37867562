"""Looking ahead shows, and nothing else looks like it."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from hvs_data.modules.freshness import LookAhead, StaleSelectionWarning, weights_version

STEPS = 12


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def backward(model):
    model(torch.randn(8, 4)).square().mean().backward()


def steps_of(model, optimizer, accumulate=1, skip=0):
    """A trainer's work between two batches, again and again."""
    for step in range(STEPS):
        backward(model)
        if (step + 1) % accumulate == 0:
            if step >= skip:  # else as a gradient scaler skips the first steps
                optimizer.step()
            optimizer.zero_grad()
        yield


class DataSgd(torch.optim.SGD):
    """An optimizer of the old kind, whose changes torch does not count."""

    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.add_(parameter.grad, alpha=-group["lr"])


def run(ahead, optimizer_class=torch.optim.SGD, **options):
    model = make_model()
    optimizer = optimizer_class(model.parameters(), lr=0.1)
    watch = LookAhead([model])
    for _ in range(ahead):
        watch.asked()
    for _ in steps_of(model, optimizer, **options):
        watch.asked()


@pytest.mark.parametrize("optimizer_class", [torch.optim.SGD, torch.optim.AdamW, DataSgd])
@pytest.mark.parametrize("ahead", [2, 3, 9])
def test_fetching_ahead_warns_once(ahead, optimizer_class):
    with pytest.warns(StaleSelectionWarning, match=f"it fetches {ahead - 1} ahead") as caught:
        run(ahead, optimizer_class)
    assert len(caught) == 1


@pytest.mark.parametrize("optimizer_class", [torch.optim.SGD, DataSgd])
@pytest.mark.parametrize("options", [{}, {"accumulate": 4}, {"skip": 3}, {"accumulate": 3, "skip": 6}])
def test_a_trainer_that_trains_before_it_asks_is_left_alone(options, optimizer_class):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(1, optimizer_class, **options)


def test_batches_that_nobody_trains_on_are_no_sign():
    watch = LookAhead([make_model()])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(20):
            watch.asked()
        LookAhead([nn.Identity()]).asked()


def test_the_version_moves_with_the_weights_only():
    model = make_model()
    optimizer = torch.optim.Adam(model.parameters())
    before = weights_version([model, model[0]])
    backward(model)
    assert weights_version([model, model[0]]) == before
    optimizer.step()
    moved = weights_version([model])
    assert moved > before
    with torch.no_grad():
        model[0].weight.lerp_(torch.zeros(4, 4), 0.1)
    assert weights_version([model]) == moved + 1
