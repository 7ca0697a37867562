"""An objective made of two functions, or of one."""

from collections import namedtuple

import numpy as np
import pytest
import torch
from torch import nn

from hvs_data.errors import SelectionError
from hvs_data.objectives.base import Objective, Owner, map_outputs, output_tensors, unwrapped


def test_encode_alone_scores_by_negative_cosine():
    features = torch.randn(3, 4, 2, 5)
    losses = Objective().pair_losses(features)
    expected = -nn.CosineSimilarity(dim=-1)(features.flatten(2)[:, :, None], features.flatten(2)[:, None])
    assert losses.dtype == torch.float32 and losses.shape == (3, 4, 4)
    # both sides err by at most (2 D + 6) units of 2**-24, D = 10 (derived beside the tests of the cosine table)
    np.testing.assert_allclose(losses, expected, rtol=0, atol=2 * 26 * 2.0**-24)


def test_several_outputs_score_by_the_mean_of_their_cosines():
    first, second = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    base = Objective()
    expected = (base.pair_losses(first) + base.pair_losses(second)) / 2
    assert torch.equal(base.pair_losses({"a": first, "b": (second,)}), expected)


def test_one_number_a_view_is_a_vector_of_one():
    assert torch.equal(Objective().pair_losses(torch.tensor([[2.0, -3.0]])), torch.tensor([[[-1.0, 1.0], [1.0, -1.0]]]))


def test_an_objective_without_encode_says_so():
    with pytest.raises(SelectionError, match="has no encode"):
        Objective().encode(torch.zeros(1, 3, 2, 2))


def test_modules_are_found_wherever_attributes_hold_them():
    parts = [nn.Linear(2, 2) for _ in range(7)]

    class Inner(Objective):
        def __init__(self):
            self.head = parts[5]

    class Outer(Objective):
        def __init__(self):
            self.encoder = parts[0]
            self.again = parts[0]
            self.table = {"a": parts[1], "b": [parts[2], (parts[3], None, "text")]}
            self.unordered = {parts[4]}
            self.inner = Inner()
            self.function = parts[6].forward
            self.own = self.encode
            self.table["cycle"] = self.table

    found = Outer().modules()
    assert len(found) == len(parts) and {id(module) for module in found} == {id(part) for part in parts}


def test_an_objective_that_is_a_module_finds_its_children():
    class Both(Objective, nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(2, 2)

    both = Both()
    assert both.modules() == [both.head]


def test_outputs_keep_their_structure():
    Pair = namedtuple("Pair", "p z")
    outputs = {"pair": Pair(torch.ones(1), torch.ones(2)), "rest": [torch.ones(3), (torch.ones(4),)]}
    doubled = map_outputs(torch.add, outputs, outputs)
    assert isinstance(doubled["pair"], Pair) and isinstance(doubled["rest"], list) and isinstance(doubled["rest"][1], tuple)
    assert [tensor.tolist() for tensor in output_tensors(doubled)] == [[2.0] * length for length in (1, 2, 3, 4)]
    with pytest.raises(SelectionError, match="got NoneType"):
        map_outputs(torch.neg, (torch.ones(1), None))


def test_wrappers_are_passed_by_compiled_or_not():
    model = nn.Linear(2, 2)
    parallel = nn.DataParallel(model)
    assert unwrapped(parallel) is model
    assert unwrapped(torch.compile(parallel, backend="eager")) is model
    compiled = torch.compile(model, backend="eager")
    assert unwrapped(nn.DataParallel(compiled)) is compiled and unwrapped(compiled) is compiled
    assert unwrapped(None) is None


def test_an_owner_is_listed_only_where_it_is_sharded():
    class Part(Objective):
        def __init__(self, model):
            self.owner = Owner(model)
            self.encoder = model[0]

    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert Part(model).modules() == [model[0]]
