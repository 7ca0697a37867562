"""Objectives that are sums of terms: what their methods are asked for, and the two-view loss that follows."""

import pytest
import torch

import hvs_data as hvs
from hvs_data import SelectionError
from hvs_data.objectives import AdditiveObjective


class Halves(AdditiveObjective):
    """Terms from a table that is the teacher's output."""

    def encode(self, pixels):
        return pixels.flatten(1)[:, :4], pixels.flatten(1)[:, 4:8]

    def term_table(self, teacher, student, local, views):
        assert local is None and views == 2
        return teacher


def test_the_loss_of_two_views_is_the_sum_of_their_terms():
    table = torch.arange(32.0).reshape(2, 4, 4) ** 2
    losses = Halves().pair_losses((table, None))
    for image in range(2):
        for i in range(4):
            for j in range(4):
                if i != j:
                    assert losses[image, i, j] == table[image, i, j] + table[image, j, i] + table[image, i, i] + table[image, j, j]


def test_a_selector_reads_the_same_loss():
    table = torch.randn(5, 4, 4, generator=torch.Generator().manual_seed(0))
    objective = Halves()
    # the view's first numbers are its row of the table
    views = [torch.cat([table[:, slot], torch.zeros(5, 8)], dim=1).reshape(5, 3, 2, 2) for slot in range(4)]
    selection = hvs.HardViewSelector(objective).select(views)
    expected = objective.pair_losses((table, None))
    for first in range(4):
        for second in range(first):
            # sums of four float32 terms in float64 and in float32, which rounds three times numbers below 16
            assert (selection.losses[:, first, second] - expected[:, first, second]).abs().max() <= 3 * 16 * 2.0**-24
    assert torch.equal(selection.slots, selection.pair) and selection.combination_loss is None


def test_an_objective_without_its_methods_says_so():
    objective = AdditiveObjective()
    with pytest.raises(SelectionError, match=r"AdditiveObjective has no encode\(pixels\)"):
        objective.encode(torch.zeros(1, 3, 2, 2))
    with pytest.raises(SelectionError, match="has no encode_local"):
        objective.encode_local(torch.zeros(1, 3, 2, 2))
    with pytest.raises(SelectionError, match="has no term_table"):
        objective.term_table(None, None, None, 2)
