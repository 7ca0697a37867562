"""The rules of choice, on tables that are written out, and in a selector."""

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import hvs_data as hvs
from hvs_data import Objective, SelectionError
from hvs_data.selection.policies import choose
from multi_crop import Terms, every_combination, make_pixels, make_recipe, make_rows

VALUES = st.lists(st.sampled_from([0.0, 1.0, 2.0, -1.0, math.nan, math.inf, -math.inf]), min_size=1, max_size=8)
ALPHA = 1e-4


class Table(Objective):
    def __init__(self, losses_BVV):
        self.losses = losses_BVV
        self.calls = 0

    def encode(self, pixels):
        self.calls += 1
        return pixels.flatten(1)

    def pair_losses(self, outputs):
        return self.losses


def finite_places(values):
    return [place for place, value in enumerate(values) if math.isfinite(value)]


@given(VALUES)
def test_hardest_and_easiest(values):
    finite = finite_places(values)
    for policy, best in (("hardest", max), ("easiest", min)):
        expected = best(finite, key=lambda place: values[place]) if finite else 0
        assert choose(torch.tensor([values]), policy).tolist() == [expected]


@given(VALUES, st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]))
def test_the_nearest_to_a_quantile(values, share):
    finite = finite_places(values)
    if finite:
        ranked = sorted(values[place] for place in finite)
        expected = values.index(ranked[math.floor(share * (len(ranked) - 1) + 0.5)])
    else:
        expected = 0
    assert choose(torch.tensor([values]), "quantile", share).tolist() == [expected]


@given(VALUES, st.sampled_from([0.2, 1.0, 30.0]), st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_the_softmax_inverts_its_distribution_function(values, temperature, unit):
    finite = finite_places(values)
    place = int(choose(torch.tensor([values]), "softmax", temperature, torch.tensor([unit], dtype=torch.float64)))
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
    units = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    counts = torch.bincount(choose(losses.expand(20_000, -1), "softmax", 0.7, units), minlength=6)
    expected = torch.where(losses.isfinite(), torch.exp(losses / 0.7), 0)
    # units in equal steps give every place its probability to within two of them
    assert (counts - 20_000 * expected / expected.sum()).abs().max() <= 2


def test_scores_far_apart_and_large_do_not_overflow():
    losses = torch.tensor([[1e30, 0.0, -1e30], [-3e38, -3e38, -3e38]])
    chosen = choose(losses, "softmax", 1e-3, torch.full((2,), 0.5, dtype=torch.float64))
    assert chosen.tolist() == [0, 1]


# ---- in a selector ----


PAIRS = make_recipe(["view"] * 4, 0)


def select(losses, params=None, **options):
    selector = hvs.HardViewSelector(Table(losses), **options)
    return selector.select([torch.zeros(len(losses), 3, 1, 1)] * losses.shape[1], params)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (1, 2)),
        ({"policy": "hardest"}, (1, 2)),
        ({"policy": "easiest"}, (0, 3)),
        ({"policy": "quantile", "quantile": 0.0}, (0, 3)),
        ({"policy": "quantile", "quantile": 0.5}, (0, 2)),
        ({"policy": "quantile", "quantile": lambda step: 1.0 - step}, (1, 2)),
        ({"policy": "softmax", "temperature": 1e-3}, (1, 2)),
        ({"policy": "softmax", "temperature": lambda step: 1e-3 + step}, (1, 2)),
        ({"policy": "random"}, (0, 1)),
    ],
)
def test_each_policy_takes_its_pair(options, expected):
    losses = torch.zeros(1, 4, 4)
    for loss, (i, j) in enumerate([(0, 3), (1, 3), (0, 1), (0, 2), (2, 3), (1, 2)]):
        losses[0, i, j] = loss
    selection = select(losses, **options)
    assert selection.pair.tolist() == [list(expected)] and selection.policy == options.get("policy", "hardest")
    assert selection.scored is (selection.policy != "random")
    assert float(selection.loss) == losses[0][expected] if selection.scored else selection.losses.isnan().all()
    assert torch.equal(selection.legal, torch.ones(4, 4, dtype=torch.bool).triu(1))


def test_the_softmax_of_a_selector_follows_its_probabilities():
    losses = torch.zeros(4000, 3, 3)
    losses[:, 0, 1], losses[:, 0, 2], losses[:, 1, 2] = 0.0, 1.0, 0.5
    selector = hvs.HardViewSelector(Table(losses), policy="softmax", temperature=0.5, seed=5)
    drawn = [selector.select([torch.zeros(4000, 3, 1, 1)] * 3).pair for _ in range(2)]
    counts = [int((torch.cat(drawn) == torch.tensor(pair)).all(1).sum()) for pair in ((0, 1), (0, 2), (1, 2))]
    weights = [math.exp(loss / 0.5) for loss in (0.0, 1.0, 0.5)]
    expected = [8000 * weight / sum(weights) for weight in weights]
    assert stats.chisquare(counts, expected).pvalue > ALPHA
    # another draw in each step
    assert not torch.equal(*drawn)
    again = hvs.HardViewSelector(Table(losses), policy="softmax", temperature=0.5, seed=5)
    assert torch.equal(again.select([torch.zeros(4000, 3, 1, 1)] * 3).pair, drawn[0])


def test_random_states_are_left_alone():
    losses = torch.randn(5, 4, 4)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    for policy in ("softmax", "random", "quantile"):
        select(losses, policy=policy, probability=0.5, limit=3)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (np.random.get_state()[1].tolist(), random.getstate())


def overlap_sum(params, image, combination):
    """Of all ordered pairs of a global and another view."""
    iou = hvs.iou(params)[image].double()
    return sum(float(iou[t, s]) for t in combination[:2] for s in combination if t != s)


@pytest.mark.parametrize(
    "recipe", [make_recipe(), PAIRS, make_recipe(["global1", "global2", "global2"], 3, 1)], ids=["crops", "pairs", "few"]
)
def test_the_smallest_overlap_is_that_of_brute_force(recipe):
    images = 40
    params = make_rows(recipe, images)
    locals_ = len(params.slots("local"))
    objective = Terms(torch.zeros(1, 1, 1)) if locals_ else Table(torch.zeros(1, 1, 1))
    selector = hvs.HardViewSelector(objective, policy="smallest_iou")
    for selection in (selector.select(make_pixels(recipe, images), params), selector.select(None, params)):
        for image in range(images):
            sums = {combination: overlap_sum(params, image, combination) for combination in every_combination(recipe)}
            chosen = tuple(selection.slots[image].tolist())
            # float64 sums of the same float32 numbers in another order; boxes apart tie at 0
            assert sums[chosen] <= min(sums.values()) + 1e-14
            assert chosen == next(combination for combination in sums if sums[combination] <= min(sums.values()) + 1e-14)
        assert selection.policy == "smallest_iou" and not selection.scored and selection.losses.isnan().all()
        assert int(selection.non_finite) == 0 and selection.params is params
    assert getattr(objective, "calls", 0) == 0


def test_the_smallest_overlap_needs_rows():
    with pytest.raises(SelectionError, match="reads the candidates' boxes, got candidates without rows"):
        select(torch.zeros(1, 3, 3), policy="smallest_iou")


def test_without_scoring_the_chosen_views_are_returned_as_well():
    recipe = make_recipe()
    pixels, params = make_pixels(recipe, 3), make_rows(recipe, 3)
    for policy in ("random", "smallest_iou"):
        selector = hvs.HardViewSelector(Terms(torch.zeros(1, 1, 1)), policy=policy)
        views = selector(pixels, params)
        assert len(views) == 5
        for place, view in enumerate(views):
            for image in range(3):
                assert torch.equal(view[image], pixels[int(selector.last.slots[image, place])][image])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "hard"}, "policy must be one of"),
        ({"quantile": 1.5}, "quantile must be a number from 0.*got 1.5"),
        ({"quantile": True}, "quantile"),
        ({"temperature": 0}, "temperature must be a number above 0.*got 0"),
        ({"temperature": math.inf}, "temperature"),
        ({"limit": 0}, "limit must be a whole number of at least 1, or None, got 0"),
        ({"limit": 2.5}, "limit"),
        ({"seed": -1}, r"seed must be a whole number from 0 to 2\*\*64 - 1, got -1"),
        ({"keep_teacher": True}, "keep_teacher needs an objective with a teacher.* got Table"),
        ({"score_size": {"local": 0}}, r"score_size\['local'\] must be a whole number"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options, message):
    with pytest.raises(SelectionError, match=message):
        hvs.HardViewSelector(Table(torch.zeros(1, 3, 3)), **options)


def test_what_a_function_of_the_step_returns_is_checked():
    for options, message in (
        ({"policy": "quantile", "quantile": lambda step: 2.0}, "quantile must be .* got 2.0 at step 0"),
        ({"policy": "softmax", "temperature": lambda step: -1}, "temperature must be .* got -1 at step 0"),
    ):
        with pytest.raises(SelectionError, match=message):
            select(torch.zeros(1, 3, 3), **options)
