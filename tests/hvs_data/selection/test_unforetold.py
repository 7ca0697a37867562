"""What is left of losses after what the rows foretell, against a regression of its own on features written out pair by pair."""

# Axes: B image, P pair, D feature, M combination.

import copy
import json
import math
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from torch import nn

import hvs_data as hvs
from hvs_data import Objective, SelectionError, policies
from hvs_data.drawing.steps import MIXED, numbers_of
from hvs_data.policies import Moment, Unforetold
from hvs_data.rows.features import FEATURES
from hvs_data.selection.geometry import DELAY, ENOUGH_PAIRS
from multi_crop import Terms, every_combination, make_pixels, make_recipe, sum_of_terms
from row_features import features_by_hand

IMAGES, VIEWS, FORGETTING, SEED = 60, 4, 0.95, 7
RECIPE = hvs.recipes.simsiam(candidates=VIEWS, size=16)
PIXELS = [torch.zeros(IMAGES, 3, 1, 1)] * VIEWS
FIRST = DELAY  # the first step that anything is foretold in


class Given(Objective):
    """The losses of the moment."""

    def __init__(self, ordered=False):
        self.ordered = ordered
        self.losses = None

    def encode(self, pixels):
        return pixels.flatten(1)

    def pair_losses(self, outputs):
        return self.losses


class Regression:
    """Least squares by a singular value decomposition, over all that was seen, each step weighted by its age.

    Features that hardly vary apart from others have no sure weight, but their part in what is foretold is small.
    """

    def __init__(self):
        self.seen = []

    def see(self, step, feature_BPD, loss_BP):
        self.seen.append((step, feature_BPD, loss_BP))

    def foretold(self, step, feature_BPD):
        """[B, P] less its mean over an image's pairs; None before the fit."""
        seen = [entry for entry in self.seen if entry[0] <= step - DELAY]
        if sum(np.isfinite(loss_BP).sum() for _, _, loss_BP in seen) < ENOUGH_PAIRS:
            return None
        rows, targets = [], []
        for then, features, losses in seen:
            root = math.sqrt(FORGETTING ** (seen[-1][0] - then))
            for feature_PD, loss_P in zip(features, losses, strict=True):
                finite = np.isfinite(loss_P)
                if finite.any():
                    rows.append(root * (feature_PD[finite] - feature_PD[finite].mean(0)))
                    targets.append(root * (loss_P[finite] - loss_P[finite].mean()))
        weight_D = np.linalg.lstsq(np.concatenate(rows), np.concatenate(targets), rcond=1e-4)[0]
        told_BP = feature_BPD @ weight_D
        return told_BP - told_BP.mean(1, keepdims=True)


# What is foretold comes from float32 features, off by less than 1e-4 of values of some units, and from weights that a ridge of 1e-6 moves:
# of weights of order 1, together below 1e-3 where features vary by order 1, as here. Losses of a step are told apart by far more.
CLOSE = 2e-3


def rows_of(step, recipe=RECIPE, images=IMAGES):
    sides = np.random.default_rng(step).integers(20, 200, (2, images))
    return hvs.sample_views(recipe, seed=1, epoch=step, index=range(images), height=sides[0], width=sides[1])


def features_of(params, pairs):
    return np.array([[features_by_hand(params, image, i, j) for i, j in pairs] for image in range(params.batch_size)])


def hard_by_rows(feature_BPD, step):
    """Losses of which about half of the variance is linear in the features, the rest chance; and each image's own level."""
    draw = np.random.default_rng(100 + step)
    weight_D = np.where(np.array(FEATURES) == "iou", -1.5, 0.0) + np.where(np.array(FEATURES) == "brightness_difference", 2.0, 0.0)
    shape = feature_BPD.shape[:2]
    return feature_BPD @ weight_D + 0.3 * draw.normal(size=shape) + 3 * draw.normal(size=(len(feature_BPD), 1))


def table_of(loss_BP, pairs, both_ways=True):
    table_BVV = torch.full((len(loss_BP), VIEWS, VIEWS), math.nan)
    for place, (i, j) in enumerate(pairs):
        table_BVV[:, i, j] = torch.from_numpy(loss_BP[:, place]).float()
        if both_ways:
            table_BVV[:, j, i] = table_BVV[:, i, j]
    return table_BVV


def by_pair(table_BVV, pairs):
    return torch.stack([table_BVV[:, i, j] for i, j in pairs], dim=1)


def run(selector, steps, ordered=False):
    """Selections of these steps, with the losses and features that the regression is to see."""
    pairs = list((permutations if ordered else combinations)(range(VIEWS), 2))
    for step in steps:
        params = rows_of(step)
        feature_BPD = features_of(params, pairs)
        loss_BP = hard_by_rows(feature_BPD, step)
        loss_BP[step % 5 :: 5, step % len(pairs)] = math.nan
        selector.objective.losses = table_of(loss_BP, pairs, not ordered)
        yield step, pairs, feature_BPD, loss_BP.astype(np.float32).astype(np.float64), selector.select(PIXELS, params)


@pytest.mark.parametrize("ordered", [False, True], ids=["pairs", "ordered pairs"])
@pytest.mark.parametrize("policy", [Unforetold(), Unforetold(policies.Easiest())], ids=["hardest", "easiest"])
def test_the_choice_is_that_of_a_regression(policy, ordered):
    selector, model = hvs.HardViewSelector(Given(ordered), policy=policy), Regression()
    sign = -1 if policy.seeks < 0 else 1
    other_pairs = 0
    for step, pairs, feature_BPD, loss_BP, selection in run(selector, range(FIRST + 5), ordered):
        told_BP = model.foretold(step, feature_BPD)
        model.see(step, feature_BPD, loss_BP)
        assert torch.equal(selection.losses.nan_to_num(9), selector.objective.losses.nan_to_num(9))  # the model's own
        assert selection.policy == "unforetold" and (selection.foretold is None) == (told_BP is None) == (step < FIRST)
        left_BP = np.where(np.isfinite(loss_BP), sign * (loss_BP - (0 if told_BP is None else told_BP)), -np.inf)
        if told_BP is not None:
            found_BP = by_pair(selection.foretold, pairs).double().numpy()
            assert found_BP - found_BP.mean(1, keepdims=True) == pytest.approx(told_BP, abs=CLOSE)
            assert selection.foretold.diagonal(dim1=1, dim2=2).isnan().all()
        chosen_B = [pairs.index(tuple(pair)) for pair in selection.pair.tolist()]
        for image, place in enumerate(chosen_B):
            assert left_BP[image, place] >= left_BP[image].max() - 2 * CLOSE
            assert selection.loss[image] == np.float32(loss_BP[image, place])
            other_pairs += step >= FIRST and place != np.nan_to_num(sign * loss_BP[image], nan=-np.inf).argmax()
    # what is foretold decides in many images
    assert other_pairs > IMAGES
    assert selector.geometry.r2 > 0.3 and selector.geometry.weights["iou"] < -1 and selector.geometry.weights["brightness_difference"] > 1


INNER = [policies.Quantile(0.5), policies.Softmax(0.2), policies.TemperedRank(3.0, leave_out=1)]


@pytest.mark.parametrize("inner", INNER, ids=lambda policy: policy.name)
def test_another_policy_is_given_what_is_left(inner):
    selector = hvs.HardViewSelector(Given(), policy=Unforetold(inner), seed=SEED)
    changed = 0
    for step, pairs, _, loss_BP, selection in run(selector, range(FIRST + 2)):
        told_BP = 0 if selection.foretold is None else by_pair(selection.foretold, pairs)
        moment, loss_BP = Moment(step, seed=SEED, key=selection.params.key[:, 0].numpy()), torch.from_numpy(loss_BP).float()
        chosen_B = inner.choose(loss_BP - told_BP, moment)
        assert selection.pair.tolist() == [list(pairs[place]) for place in chosen_B]
        changed += int((chosen_B != inner.choose(loss_BP, moment)).sum())
    assert changed > IMAGES / 2


def test_mixtures_and_rules_hold_for_it_too():
    rule = policies.Feasible(0.3, policy=policies.Mixed(0.6, Unforetold()))
    inside = Unforetold(policies.Feasible(0.3, policy=policies.Mixed(0.6)))
    selector, twin = (hvs.HardViewSelector(Given(), policy=policy, seed=SEED) for policy in (rule, inside))
    for (step, pairs, _, loss_BP, selection), (*_, same) in zip(run(selector, range(FIRST + 3)), run(twin, range(FIRST + 3)), strict=True):
        assert torch.equal(selection.slots, same.slots) and selection.none_allowed == same.none_allowed
        iou_BP = by_pair(hvs.iou(selection.params), pairs)
        left_BP = torch.from_numpy(loss_BP) - (0 if selection.foretold is None else by_pair(selection.foretold, pairs))
        left_BP = left_BP.where((iou_BP >= 0.3) & left_BP.isfinite(), -math.inf)
        chance = numbers_of(selection.params.key[:, 0].numpy(), SEED, step, MIXED) >= 0.6
        for image in range(IMAGES):
            if not chance[image] and left_BP[image].isfinite().any():
                assert tuple(selection.pair[image].tolist()) == pairs[int(left_BP[image].argmax())]
        # the regression sees the pairs that may be chosen
        assert torch.equal(by_pair(selection.losses, pairs).isnan(), (iou_BP < 0.3) | torch.from_numpy(loss_BP).isnan()) or (
            selection.none_allowed
        )


@pytest.mark.parametrize("options", [{}, {"limit": 12}], ids=["all", "some of 24"])
def test_combinations_are_judged_by_their_pair(options):
    """Of a loss with local views the hardest combination with each pair is foretold, and taken off all combinations with it."""
    recipe, images = make_recipe(locals_=4, chosen=2), 60
    pairs = list(dict.fromkeys(combination[:2] for combination in every_combination(recipe)))
    objective, model = Terms(None), Regression()
    selector = hvs.HardViewSelector(objective, policy="unforetold", **options)
    other = 0
    for step in range(FIRST + 3):
        params = rows_of(step, recipe, images)
        feature_BPD = features_of(params, pairs)
        objective.table = torch.randn(images, 4, recipe.num_views, generator=torch.Generator().manual_seed(step))
        for place, (i, j) in enumerate(pairs):
            objective.table[:, i, j] -= torch.from_numpy(6 * feature_BPD[:, place, FEATURES.index("iou")]).float()
        selection = selector.select(make_pixels(recipe, images), params)
        best_BP = by_pair(selection.losses, pairs).double().numpy()
        told_BP = model.foretold(step, feature_BPD)
        for image in range(images):
            sums = {combination: sum_of_terms(objective.table[image], combination, recipe) for combination in every_combination(recipe)}
            chosen = tuple(selection.slots[image].tolist())
            assert float(selection.loss[image]) == pytest.approx(sums[chosen], abs=1e-5)
            if not options:
                assert best_BP[image] == pytest.approx([max(sums[c] for c in sums if c[:2] == pair) for pair in pairs], abs=1e-5)
            left = best_BP[image] - (0 if told_BP is None else told_BP[image])
            # the weights are of order 6 here, and so is what rounding and ridge leave open
            assert sums[chosen] - best_BP[image][pairs.index(chosen[:2])] == pytest.approx(0, abs=1e-5)
            assert left[pairs.index(chosen[:2])] >= np.nanmax(left) - 12 * CLOSE
            other += pairs.index(chosen[:2]) != np.nanargmax(best_BP[image])
        model.see(step, feature_BPD, best_BP)
        assert torch.isfinite(selection.combination_loss).all()
    assert other > images / 2


def test_steps_that_do_not_score_are_left_out_of_it():
    selector, model = hvs.HardViewSelector(Given(), policy="unforetold", every=3), Regression()
    for step, pairs, feature_BPD, loss_BP, selection in run(selector, range(FIRST + 8)):
        told_BP = model.foretold(step, feature_BPD)
        assert selection.scored == (step % 3 == 0) and (selection.scored or selection.foretold is None)
        if selection.scored:
            model.see(step, feature_BPD, loss_BP)
            assert (told_BP is None) == (selection.foretold is None)
            if told_BP is not None:
                found_BP = by_pair(selection.foretold, pairs).double().numpy()
                assert found_BP - found_BP.mean(1, keepdims=True) == pytest.approx(told_BP, abs=CLOSE)
        else:
            assert selection.policy == "random"
    assert selection.step > FIRST and selector.geometry.pairs == sum(np.isfinite(loss_BP).sum() for *_, loss_BP in model.seen)


@pytest.mark.parametrize("stop", [3, DELAY, DELAY + 4])
@pytest.mark.parametrize("policy", [Unforetold(), policies.Mixed(0.5, Unforetold(policies.TemperedRank(3.0)))], ids=["hardest", "mixed"])
def test_a_resumed_run_makes_the_same_choices(policy, stop):
    whole, first, second = (hvs.HardViewSelector(Given(), policy=policy, seed=SEED) for _ in range(3))
    expected = [selection for *_, selection in run(whole, range(2 * DELAY + 2))]
    got = [selection for *_, selection in run(first, range(stop))]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    got += [selection for *_, selection in run(second, range(stop, 2 * DELAY + 2))]
    for one, other in zip(got, expected, strict=True):
        assert torch.equal(one.slots, other.slots) and (one.foretold is None) == (other.foretold is None)
        assert one.foretold is None or torch.equal(one.foretold.nan_to_num(9), other.foretold.nan_to_num(9))
    assert second.geometry.weights == whole.geometry.weights and got[-1].foretold is not None


def test_slots_that_are_given_show_the_same():
    whole, few = (hvs.HardViewSelector(Given(), policy="unforetold") for _ in range(2))
    order_V = torch.tensor([2, 0, 3, 1])
    for (*_, selection), step in zip(run(whole, range(FIRST + 2)), range(FIRST + 2), strict=True):
        few.objective.losses = whole.objective.losses[:, order_V][:, :, order_V]
        told = few.select(PIXELS, rows_of(step), slots=order_V.expand(IMAGES, -1))
        pairs_B = [sorted(pair) for pair in told.pair.tolist()]
        assert pairs_B == selection.pair.tolist() and (told.foretold is None) == (step < FIRST)
        if told.foretold is not None:
            # the same sums in another order of views; of weights and features of order 1
            assert torch.allclose(told.foretold, selection.foretold, rtol=0, atol=1e-5, equal_nan=True)


def test_a_model_is_scored_without_a_trace():
    torch.manual_seed(0)
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5))
    model.projector, model.predictor = nn.Linear(4, 4), nn.Linear(4, 4)
    before, state, numpy_state = copy.deepcopy(model.state_dict()), torch.get_rng_state(), np.random.get_state()[1].copy()
    selector = hvs.HardViewSelector(hvs.objectives.SimSiam(model), policy="unforetold")
    for step in range(FIRST + 2):
        params = rows_of(step)
        selector([torch.randn(IMAGES, 3, 8, 8, generator=torch.Generator().manual_seed(slot)) for slot in range(VIEWS)], params)
    assert selector.last.foretold is not None
    assert torch.equal(torch.get_rng_state(), state) and np.array_equal(np.random.get_state()[1], numpy_state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_it_needs_is_said():
    selector = hvs.HardViewSelector(Given(), policy="unforetold")
    for params in (None, RECIPE):
        with pytest.raises(
            SelectionError, match="policy 'unforetold' reads the candidates' rows, got candidates without rows; pass params"
        ):
            selector.select(PIXELS, params)
    for policy in (Unforetold(), policies.Feasible(0.1, policy=Unforetold()), policies.Mixed(0.5, Unforetold(), by="step")):
        with pytest.raises(SelectionError, match="prefilter goes with policies that seek the largest or the smallest loss"):
            hvs.HardViewSelector(Given(), policy=policy, prefilter=3)
    assert hvs.HardViewSelector(Given(), policy="unforetold", budget="cheap").prefilter is None
