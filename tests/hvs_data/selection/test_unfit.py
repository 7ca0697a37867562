"""Losses of which none is finite: the first pair is taken, which is counted and told of."""

import warnings

import pytest
import torch
from torch import nn

import hvs_data as hvs
from hvs_data import Objective


class Embeds(Objective):
    def __init__(self):
        self.network = nn.Linear(12, 4)

    def encode(self, pixels):
        return self.network(pixels.flatten(1))


def candidates():
    return [torch.randn(5, 3, 2, 2) for _ in range(3)]


def test_nan_in_the_weights_is_counted_and_told_of_once():
    selector = hvs.HardViewSelector(Embeds())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        selector.select(candidates())
    assert selector.unfit_images == 0
    selector.objective.network.weight.data.fill_(torch.nan)
    with pytest.warns(RuntimeWarning, match="none for 5 of 5 images in step 1.*NaN in the model's weights"):
        selection = selector.select(candidates())
    assert selection.pair.tolist() == [[0, 1]] * 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        selector.select(candidates())
    assert selector.unfit_images == 10


def test_images_that_have_a_finite_loss_do_not_count():
    class OnePair(Embeds):
        def pair_losses(self, outputs):
            losses = super().pair_losses(outputs)
            losses[0, 0, 1:] = torch.nan
            return losses

    selector = hvs.HardViewSelector(OnePair())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert selector.select(candidates()).pair[0].tolist() == [1, 2]
    assert selector.unfit_images == 0
