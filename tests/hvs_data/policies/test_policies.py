"""The rules of choice, on tables that are written out."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hvs_data import SelectionError
from hvs_data.drawing.steps import MIXED, WHICH, unit_numbers
from hvs_data.policies import (
    Anchored,
    Easiest,
    Feasible,
    Hardest,
    Mixed,
    Moment,
    Policy,
    Quantile,
    Ramp,
    Random,
    SmallestIoU,
    Softmax,
    TemperedRank,
    Unforetold,
)
from hvs_data.policies.named import POLICIES, policy_of

VALUES = st.lists(st.sampled_from([0.0, 1.0, 2.0, -1.0, math.nan, math.inf, -math.inf]), min_size=1, max_size=8)


class At(Moment):
    """A moment whose numbers are given."""

    def __init__(self, units, step=0):
        super().__init__(step)
        object.__setattr__(self, "units", units)

    def of_images(self, purpose, images, device):
        assert purpose == WHICH and images == len(self.units)
        return torch.tensor(self.units, dtype=torch.float64)


def finite_places(values):
    return [place for place, value in enumerate(values) if math.isfinite(value)]


@given(VALUES)
def test_hardest_and_easiest(values):
    finite = finite_places(values)
    for policy, best in ((Hardest(), max), (Easiest(), min)):
        expected = best(finite, key=lambda place: values[place]) if finite else 0
        assert policy.choose(torch.tensor([values]), Moment(0)).tolist() == [expected]


@given(VALUES, st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]))
def test_the_nearest_to_a_quantile(values, share):
    finite = finite_places(values)
    if finite:
        ranked = sorted(values[place] for place in finite)
        expected = values.index(ranked[math.floor(share * (len(ranked) - 1) + 0.5)])
    else:
        expected = 0
    assert Quantile(share).choose(torch.tensor([values]), Moment(0)).tolist() == [expected]


@given(VALUES, st.sampled_from([0.2, 1.0, 30.0]), st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_the_softmax_inverts_its_distribution_function(values, temperature, unit):
    finite = finite_places(values)
    place = int(Softmax(temperature).choose(torch.tensor([values]), At([unit])))
    if not finite:
        assert place == 0
        return
    largest = max(values[i] for i in finite)
    weights = [math.exp((value - largest) / temperature) if math.isfinite(value) else 0.0 for value in values]
    below, above = sum(weights[:place]), sum(weights[: place + 1])
    # weights are cut to 2**-40, of which at most 8 and a target are summed
    assert place in finite and below - 2.0**-35 <= unit * sum(weights) <= above + 2.0**-35


def test_the_softmax_draws_with_its_probabilities():
    losses = torch.tensor([0.0, 1.0, -0.5, math.nan, 2.0, math.inf])
    units = ((torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000).tolist()
    counts = torch.bincount(Softmax(0.7).choose(losses.expand(20_000, -1), At(units)), minlength=6)
    expected = torch.where(losses.isfinite(), torch.exp(losses / 0.7), 0)
    # units in equal steps give every place its probability to within two of them
    assert (counts - 20_000 * expected / expected.sum()).abs().max() <= 2


def test_scores_far_apart_and_large_do_not_overflow():
    losses = torch.tensor([[1e30, 0.0, -1e30], [-3e38, -3e38, -3e38]])
    chosen = Softmax(1e-3).choose(losses, At([0.5, 0.5]))
    assert chosen.tolist() == [0, 1]


# ---- tempered ranks ----


def tempered(values, beta, leave_out):
    """The distribution by its definition: a probability for each place."""
    ranked = sorted(finite_places(values), key=lambda place: values[place])
    kept = ranked[: max(1, len(ranked) - leave_out)]
    rank = {place: number / max(1, len(ranked) - 1) for number, place in enumerate(ranked)}
    if math.isinf(beta):
        return {place: float(place == kept[-1]) for place in kept}
    weight = {place: math.exp(beta * rank[place]) for place in kept}
    return {place: weight[place] / sum(weight.values()) for place in kept}


UNITS = 4000


@given(VALUES, st.sampled_from([0.0, 0.5, 3.0, 60.0, math.inf]), st.integers(0, 3))
def test_tempered_ranks_are_drawn_with_their_probabilities(values, beta, leave_out):
    units = ((torch.arange(UNITS, dtype=torch.float64) + 0.5) / UNITS).tolist()
    losses = torch.tensor([values]).expand(UNITS, -1)
    counts = torch.bincount(TemperedRank(beta, leave_out).choose(losses, At(units)), minlength=len(values)).tolist()
    if not finite_places(values):
        assert counts[0] == UNITS
        return
    expected = tempered(values, beta, leave_out)
    for place, count in enumerate(counts):
        # units in equal steps give every place its probability to within two of them
        assert abs(count - UNITS * expected.get(place, 0)) <= 2


def test_the_temper_changes_over_the_run():
    policy = TemperedRank()
    assert not policy.steady and not policy.asks(Moment(0, 100)) and not policy.asks(Moment(25, 100)) and policy.asks(Moment(26, 100))
    assert TemperedRank(2.0).steady and TemperedRank(2.0).asks(Moment(0))
    assert not TemperedRank(0.0).asks(Moment(7))
    by_step = TemperedRank(lambda step: step - 3.0 if step > 3 else 0)
    assert [by_step.asks(Moment(step)) for step in (0, 3, 4)] == [False, False, True]


# ---- schedules ----


def test_a_ramp_goes_from_one_value_to_another():
    linear = Ramp(1, 3, start=0.2, stop=0.6, shape="linear")
    at = [linear.at(Moment(step, 10)) for step in (0, 2, 3, 4, 6, 10, 12)]
    assert at == pytest.approx([1, 1, 1.5, 2, 3, 3, 3], rel=1e-15)
    cosine = Ramp(4, 0)
    for step in range(11):
        assert cosine.at(Moment(step, 10)) == pytest.approx(4 * (1 + math.cos(math.pi * step / 10)) / 2, abs=1e-14)
    assert Ramp(0, 1, start=0.5, stop=0.5).at(Moment(5, 10)) == 0 and Ramp(0, 1, start=0.5, stop=0.5).at(Moment(6, 10)) == 1


def test_a_ramp_needs_the_length_of_the_run():
    with pytest.raises(SelectionError, match="expected total_steps.*got None; pass HardViewSelector"):
        Ramp(0, 1).at(Moment(3))


# ---- mixed ----


def test_mixed_leaves_a_share_of_the_images_to_chance():
    policy, moment = Mixed(0.3), Moment(5, seed=9)
    random = policy.at_random(2000, moment, torch.device("cpu"))
    assert np.array_equal(random.numpy(), unit_numbers(9, 5, MIXED, 2000) >= 0.3)
    assert abs(float(random.double().mean()) - 0.7) < 5 * math.sqrt(0.21 / 2000)
    assert policy.asks(moment) and policy.steady and policy.seeks == 1 and not policy.may_prefilter
    assert not Mixed(0.0).asks(moment) and not bool(Mixed(1.0).at_random(50, moment, torch.device("cpu")).any())


def test_mixed_leaves_a_share_of_the_steps_to_chance():
    policy = Mixed(0.3, by="step")
    asked = [policy.asks(Moment(step, seed=9)) for step in range(2000)]
    assert asked == [bool(unit_numbers(9, step, MIXED, 1)[0] < 0.3) for step in range(2000)]
    assert policy.at_random(4, Moment(0), torch.device("cpu")) is None and not policy.steady and policy.may_prefilter


# ---- names and arguments ----


@pytest.mark.parametrize("name", POLICIES)
def test_every_name_stands_for_a_policy_of_that_name(name):
    policy = policy_of(name, 0.5, 2.0)
    assert policy.name == name and policy == policy_of(name, 0.5, 2.0) and policy_of(policy, 0.5, 2.0) is policy
    assert policy.ever_asks == (name not in ("random", "smallest_iou"))
    assert hash(policy) == hash(policy_of(name, 0.5, 2.0))


def test_policies_around_another_one_pass_on_what_it_needs():
    inner = TemperedRank(Ramp(0, 1, start=0.5))
    for policy in (Feasible(0.1, policy=inner), Mixed(0.5, inner), Unforetold(inner)):
        assert policy.lists and not policy.steady
        assert not policy.asks(Moment(0, 10, 1)) and policy.asks(Moment(9, 10, 1))
    mixed = Feasible(0.1, policy=Mixed(0.5))
    assert torch.equal(*(p.at_random(9, Moment(3), torch.device("cpu")) for p in (mixed, Mixed(0.5))))
    assert Mixed(0.5, Feasible(0.3)).rule == Unforetold(Feasible(0.3)).rule == Feasible(0.3).rule is not None
    for outer in (Unforetold(), Unforetold(Easiest()), Feasible(0.1, policy=Unforetold()), Mixed(0.5, Unforetold(), by="step")):
        assert outer.foretold and not outer.may_prefilter and outer.seeks == (-1 if outer == Unforetold(Easiest()) else 1)
    assert not Feasible(0.1).foretold and Feasible(0.1).may_prefilter and not Feasible(0.1, policy=Softmax()).may_prefilter
    assert Mixed(0.5, Feasible(0.3)).rule == Feasible(0.3).rule == Anchored(Feasible(0.3)).rule is not None
    assert Anchored().anchor is Mixed(0.5, Anchored()).anchor is Feasible(0.3, policy=Anchored()).anchor is not None
    assert Hardest().anchor is None
    for inner in (Hardest(), Easiest(), Random(), SmallestIoU(), TemperedRank(2.0), Mixed(0.5, by="step")):
        outer = Anchored(inner)
        told = [(p.lists, p.unasked, p.seeks, p.ever_asks, p.steady, p.asks(Moment(3))) for p in (outer, inner)]
        assert told[0] == told[1] and outer == Anchored(inner) and hash(outer) == hash(Anchored(inner)) != hash(inner)
    assert Mixed(0.5, Anchored(), by="step").unasked == Random.unasked


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TemperedRank(-1), "beta must be a number of at least 0.*got -1"),
        (lambda: TemperedRank("hot"), "beta"),
        (lambda: TemperedRank(Ramp(-1, 2)), "beta.*got -1"),
        (lambda: TemperedRank(1, leave_out=-1), "leave_out must be a whole number of at least 0, got -1"),
        (lambda: TemperedRank(1, leave_out=1.5), "leave_out"),
        (lambda: Mixed(1.5), "share must be a number from 0 to 1.*got 1.5"),
        (lambda: Mixed(0.5, by="batch"), 'by must be "image" or "step", got \'batch\''),
        (lambda: Mixed(0.5, Random()), "policy must be a policy that asks the model"),
        (lambda: Mixed(0.5, "hardest"), "policy must be a policy"),
        (lambda: Mixed(0.5, Mixed(0.5)), "policy must be a policy"),
        (lambda: Unforetold(SmallestIoU()), "policy must be a policy that asks the model, other than Unforetold.* got SmallestIoU"),
        (lambda: Unforetold(Mixed(0.5, Unforetold())), "policy must be a policy that asks the model, other than Unforetold"),
        (lambda: Unforetold("hardest"), "policy must be a policy.* got 'hardest'"),
        (lambda: Feasible(None), "at least one of min_iou, min_area and max_color"),
        (lambda: Feasible(1.5), "MinIoU takes a number from 0 to 1, got 1.5"),
        (lambda: Feasible(0.1, policy=Feasible(0.2)), "without a rule of its own"),
        (lambda: Quantile(2), "quantile must be.*got 2"),
        (lambda: Softmax(0), "temperature must be.*got 0"),
        (lambda: Ramp(0, math.inf), "four finite numbers"),
        (lambda: Ramp(0, 1, start=0.5, stop=0.2), "0 <= start <= stop <= 1, got start=0.5 and stop=0.2"),
        (lambda: Ramp(0, 1, shape="steps"), "shape must be one of"),
        (lambda: policy_of("tempered-rank", 0.5, 1.0), "policy must be one of .*or an object such as"),
        (lambda: policy_of(TemperedRank, 0.5, 1.0), "policy must be one of"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(make, message):
    with pytest.raises(SelectionError, match=message):
        make()


def test_a_policy_without_a_choice_is_none():
    class Undecided(Policy):
        name = "undecided"

    with pytest.raises(TypeError, match="abstract method '?choose"):
        Undecided()


def test_policies_are_values():
    assert replace(TemperedRank(1), leave_out=2) == TemperedRank(1, 2) != TemperedRank(1)
    assert SmallestIoU() == SmallestIoU() != Random()
