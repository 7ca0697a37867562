"""Policies in a selector."""

import math
import random

import numpy as np
import pytest
import torch
from scipy import stats

import hvs_data as hvs
from hvs_data import Objective, SelectionError, policies
from hvs_data.drawing.steps import MIXED, numbers_of, unit_numbers
from hvs_data.policies import Moment
from multi_crop import Terms, every_combination, make_pixels, make_recipe, make_rows, sum_of_terms

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


# ---- policies that are objects ----


def table_of_losses(images, views, seed=0):
    return torch.randn(images, views, views, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("recipe", [PAIRS, make_recipe(["global1", "global1", "global2", "global2"], 0)], ids=["one role", "two roles"])
@pytest.mark.parametrize(
    "least", [{"min_iou": 0.8}, {"min_area": 0.4}, {"max_color": 0.1}, {"min_iou": 0.2, "min_area": 0.2, "max_color": 0.3}]
)
def test_the_hardest_feasible_pair_is_that_of_brute_force(recipe, least):
    images = 60
    params, losses = make_rows(recipe, images), table_of_losses(images, 4)
    losses[::7, 0, 2] = math.nan
    policy = policies.Feasible(**{"min_iou": None, **least})
    scored = hvs.HardViewSelector(Table(losses), policy=policy)
    unscored = hvs.HardViewSelector(Table(losses), policy=policy, warmup=5)
    pixels = make_pixels(recipe, images)
    hard, first = scored.select(pixels, params), unscored.select(None, params)
    iou, area = hvs.iou(params), params.box[..., 2:].double().prod(-1) / params.image_size.double().prod(-1)[:, None]
    without = 0
    for image in range(images):
        legal = [(i, j) for i, j in scored.last.legal.nonzero().tolist()]

        def feasible(i, j, image=image):
            near = True
            if "max_color" in least:
                gray = params.gray[image, [i, j]].tolist()
                near = gray[0] == gray[1]
                for name in ("brightness", "contrast") + (() if all(gray) else ("saturation", "hue")):
                    one, other = getattr(params, name)[image, [i, j]].double().tolist()
                    apart = abs(one - other)
                    near = near and (min(apart, 1 - apart) if name == "hue" else apart) <= least["max_color"]
            wide = min(area[image, i], area[image, j]) >= least.get("min_area", 0)
            return near and wide and iou[image, i, j] >= least.get("min_iou", 0)

        fitting = [pair for pair in legal if feasible(*pair)]
        without += not fitting
        widest = max(legal, key=lambda pair: float(iou[image][pair]))
        finite = [pair for pair in fitting if math.isfinite(losses[image][pair])]
        expected = max(finite, key=lambda pair: float(losses[image][pair])) if finite else (fitting or [widest])[0]
        assert tuple(hard.pair[image].tolist()) == expected
        assert tuple(first.pair[image].tolist()) == (fitting or [widest])[0]
    assert 0 < without < images and scored.none_allowed == without == hard.none_allowed and hard.policy == "feasible"


def test_rules_of_the_user_and_of_the_policy_both_count():
    params, losses = make_rows(PAIRS, 40), table_of_losses(40, 4)
    both = hvs.HardViewSelector(Table(losses), policy=policies.Feasible(0.2), allowed=hvs.rules.MinArea(0.3))
    one = hvs.HardViewSelector(Table(losses), policy=policies.Feasible(0.2, min_area=0.3))
    pixels = make_pixels(PAIRS, 40)
    assert torch.equal(both.select(pixels, params).pair, one.select(pixels, params).pair)


def test_the_easiest_of_a_mixture_has_the_easiest_local_views():
    recipe, images = make_recipe(), 30
    table = torch.randn(images, 4, recipe.num_views, generator=torch.Generator().manual_seed(1))
    policy = policies.Mixed(0.5, policies.Easiest())
    params = make_rows(recipe, images)
    got = hvs.HardViewSelector(Terms(table), policy=policy, seed=3).select(make_pixels(recipe, images), params)
    chance = numbers_of(params.key[:, 0].numpy(), 3, 0, MIXED) >= 0.5
    for image in np.flatnonzero(~chance):
        expected = min(every_combination(recipe), key=lambda combination, of=table[image]: sum_of_terms(of, combination, recipe))
        assert tuple(got.slots[image].tolist()) == expected
    assert 0 < chance.sum() < images


@pytest.mark.parametrize("recipe", [PAIRS, make_recipe(), make_recipe(["view"] * 3, 4, 2)], ids=["pairs", "crops", "one role"])
def test_mixed_gives_each_image_the_hardest_or_the_first_combination(recipe):
    images = 50
    params, pixels = make_rows(recipe, images), make_pixels(recipe, images)
    locals_ = len(params.slots("local"))
    table = torch.randn(images, recipe.num_views - locals_, recipe.num_views, generator=torch.Generator().manual_seed(1))
    objective = Terms(table) if locals_ else Table(table_of_losses(images, recipe.num_views))
    mixed = hvs.HardViewSelector(objective, policy=policies.Mixed(0.4), seed=3)
    hardest, random_ = hvs.HardViewSelector(objective), hvs.HardViewSelector(objective, policy="random")
    for step in range(3):
        got, hard, first = (selector.select(pixels, params) for selector in (mixed, hardest, random_))
        chance = numbers_of(params.key[:, 0].numpy(), 3, step, MIXED) >= 0.4
        for image in range(images):
            assert torch.equal(got.slots[image], (first if chance[image] else hard).slots[image])
            if not chance[image]:
                assert got.loss[image] == hard.loss[image]
            elif locals_:
                combination = tuple(got.slots[image].tolist())
                assert float(got.loss[image]) == pytest.approx(sum_of_terms(table[image], combination, recipe), rel=1e-6, abs=1e-6)
            else:
                assert got.loss[image] == objective.losses[image][tuple(got.pair[image].tolist())]
        assert 0 < chance.sum() < images and got.scored and got.policy == "mixed"


def test_mixed_by_step_asks_in_some_steps_alone():
    losses = table_of_losses(4, 3)
    selector = hvs.HardViewSelector(Table(losses), policy=policies.Mixed(0.5, by="step"), seed=8)
    hardest = hvs.HardViewSelector(Table(losses)).select([torch.zeros(4, 3, 1, 1)] * 3).pair
    asked = []
    for step in range(40):
        asked.append(bool(unit_numbers(8, step, MIXED, 1)[0] < 0.5))
        assert selector.scores(step) is asked[-1] and selector.narrows
        selection = selector.select([torch.zeros(4, 3, 1, 1)] * 3)
        assert selection.scored is asked[-1] and (torch.equal(selection.pair, hardest) or not asked[-1])
        assert asked[-1] or selection.pair.tolist() == [[0, 1]] * 4
    assert selector.objective.calls == sum(asked) and 0 < sum(asked) < 40


def test_a_tempered_selector_starts_at_random_and_hardens():
    images = 3000
    losses = table_of_losses(images, 4)
    selector = hvs.HardViewSelector(Table(losses), policy="tempered", total_steps=100, seed=2)
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    rank_of = torch.stack([losses[:, i, j] for i, j in pairs], 1).argsort(1).argsort(1)
    means = {}
    for step in (0, 25, 40, 70, 100):
        selector.step = step
        selection = selector.select([torch.zeros(images, 3, 1, 1)] * 4)
        assert selection.scored is (step > 25) and selection.policy == ("tempered" if step > 25 else "random")
        place = torch.tensor([pairs.index(tuple(pair)) for pair in selection.pair.tolist()])
        rank = rank_of[torch.arange(images), place].double() / 5
        beta = policies.Ramp(0, 4, start=0.25).at(Moment(step, 100))
        weights = torch.exp(beta * torch.arange(6, dtype=torch.float64) / 5)
        expected = float((weights * torch.arange(6) / 5).sum() / weights.sum())
        means[step] = float(rank.mean())
        # the mean rank of a draw has a standard deviation below .35
        assert abs(means[step] - expected) < 5 * 0.35 / math.sqrt(images)
    assert means[40] < means[70] < means[100]


def test_what_a_share_of_the_run_needs():
    with pytest.raises(SelectionError, match="expected total_steps"):
        hvs.HardViewSelector(Table(table_of_losses(2, 3)), policy="tempered").select([torch.zeros(2, 3, 1, 1)] * 3)
    selector = hvs.HardViewSelector(Table(table_of_losses(2, 3)), warmup=0.3, total_steps=10)
    assert [selector.scores(step) for step in range(5)] == [False, False, False, True, True]
    with pytest.raises(SelectionError, match="total_steps must be a whole number of at least 1, or None, got 0"):
        hvs.HardViewSelector(Table(table_of_losses(2, 3)), total_steps=0)


POLICY_OBJECTS = [
    policies.TemperedRank(2.0, leave_out=1),
    policies.TemperedRank(policies.Ramp(0, 5, start=0.3)),
    policies.Mixed(policies.Ramp(0, 1)),
    policies.Mixed(0.5, policies.TemperedRank(3), by="step"),
    policies.Feasible(0.2, policy=policies.Mixed(0.5)),
]


@pytest.mark.parametrize("policy", POLICY_OBJECTS, ids=lambda policy: type(policy).__name__)
def test_a_resumed_run_makes_the_same_choices(policy):
    params, pixels, losses = make_rows(PAIRS, 20), make_pixels(PAIRS, 20), table_of_losses(20, 4)
    options = {"policy": policy, "seed": 5, "total_steps": 20}
    whole = hvs.HardViewSelector(Table(losses), **options)
    expected = [whole.select(pixels, params) for _ in range(20)]
    first, second = (hvs.HardViewSelector(Table(losses), **options) for _ in range(2))
    for _ in range(9):
        first.select(pixels, params)
    second.load_state_dict(first.state_dict())
    for selection in expected[9:]:
        resumed = second.select(pixels, params)
        assert (resumed.step, resumed.scored) == (selection.step, selection.scored) and torch.equal(resumed.slots, selection.slots)
    assert len({tuple(selection.pair.flatten().tolist()) for selection in expected}) > 1


@pytest.mark.parametrize(
    "policy",
    [*POLICY_OBJECTS, policies.Softmax(0.7), policies.Quantile(0.5), policies.Anchored(policies.TemperedRank(1.0))],
    ids=lambda policy: type(policy).__name__,
)
def test_two_ranks_make_the_choices_of_one(policy, monkeypatch):
    images = 24
    params, pixels, losses = make_rows(PAIRS, images), make_pixels(PAIRS, images), table_of_losses(images, 4)
    options = {"policy": policy, "seed": 5, "total_steps": 6}
    alone = hvs.HardViewSelector(Table(losses), **options)
    expected = [alone.select(pixels, params) for _ in range(6)]
    assert any(selection.scored for selection in expected)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        mine = slice(rank * images // 2, (rank + 1) * images // 2)
        selector = hvs.HardViewSelector(Table(losses[mine]), **options)
        for selection in expected:
            part = selector.select([view[mine] for view in pixels], params.images(mine))
            assert part.scored == selection.scored and torch.equal(part.slots, selection.slots[mine])
