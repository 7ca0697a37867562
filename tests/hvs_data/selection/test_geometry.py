"""The model of hardness from rows, against features written out pair by pair and least squares in closed form."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hvs_data as hvs
from hvs_data import SelectionError
from hvs_data.rows.features import FEATURES, pair_features, pair_scores
from hvs_data.selection import geometry
from hvs_data.selection.geometry import BEFORE, DELAY, ENOUGH_PAIRS, Geometry, HostCopy
from row_features import FLOAT32, features_by_hand

RECIPES = {
    "simsiam": hvs.recipes.simsiam(candidates=4, size=32),
    "byol": hvs.recipes.byol(candidates=4, size=32),
    "dino": hvs.recipes.dino(candidates=4, local_candidates=3, local_views=2, size=32, local_size=16),
}
PAIRS = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]


def rows(recipe="simsiam", images=5, seed=0):
    """Rows of a recipe, with shifts of hue all around the circle."""
    draw = np.random.default_rng(seed)
    sides = draw.integers(20, 400, (2, images))
    params = hvs.sample_views(RECIPES[recipe], seed=seed, epoch=0, index=range(images), height=sides[0], width=sides[1])
    return replace(params, hue=torch.from_numpy(draw.uniform(-0.5, 0.5, params.hue.shape).astype(np.float32)))


@pytest.mark.parametrize("recipe", RECIPES)
def test_features_are_what_their_names_say(recipe):
    params = rows(recipe)
    found_BPD = pair_features(params, PAIRS)
    for image in range(params.batch_size):
        for number, (i, j) in enumerate(PAIRS):
            assert found_BPD[image, number] == pytest.approx(features_by_hand(params, image, i, j), abs=FLOAT32)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(sorted(RECIPES)), st.integers(0, 10**6), st.lists(st.sampled_from([0.0, 1.0, -0.5, 2.0]), min_size=18, max_size=18))
def test_scores_are_the_weighted_sum_of_features(recipe, seed, weight_D):
    assert len(FEATURES) == 18
    params = rows(recipe, images=3, seed=seed)
    score_BVV = pair_scores(params, weight_D)
    assert np.array_equal(score_BVV, score_BVV.transpose(0, 2, 1))
    expected_BP = pair_features(params, PAIRS) @ np.array(weight_D)
    found_BP = np.stack([score_BVV[:, i, j] for i, j in PAIRS], axis=1)
    assert found_BP == pytest.approx(expected_BP, abs=sum(map(abs, weight_D)) * FLOAT32 + 1e-9)


def observed(steps, forgetting, images=40, linear=None, noise=0.1, seed=0):
    """A model after these steps, and what it saw: (step, features, losses)."""
    model, seen = Geometry(forgetting), []
    draw = np.random.default_rng(seed)
    for step in steps:
        params = rows("byol", images, seed=step)
        feature_BPD = pair_features(params, PAIRS)
        loss_BP = draw.normal(size=(images, len(PAIRS))) * noise + 10 * draw.normal(size=(images, 1))
        if linear is not None:
            loss_BP += feature_BPD @ linear
        model.observe(step, params, PAIRS, torch.from_numpy(loss_BP))
        seen.append((step, feature_BPD, loss_BP))
    return model, seen


def centred(value_BP):
    return value_BP - value_BP.mean(1, keepdims=True)


@pytest.mark.parametrize("forgetting", [1.0, 0.98, 0.5])
def test_weights_are_weighted_least_squares(forgetting):
    steps = [0, 1, 2, 5, 9, 10]
    linear = np.random.default_rng(1).normal(size=len(FEATURES))
    model, seen = observed(steps, forgetting, linear=linear)
    root = [math.sqrt(forgetting ** (steps[-1] - step)) for step, _, _ in seen]
    x = np.concatenate([r * centred(feature_BPD).reshape(-1, len(FEATURES)) for r, (_, feature_BPD, _) in zip(root, seen, strict=True)])
    y = np.concatenate([r * centred(loss_BP).ravel() for r, (_, _, loss_BP) in zip(root, seen, strict=True)])
    expected, (left_over,), _, singular = np.linalg.lstsq(x, y, rcond=None)
    # the ridge moves the solution by at most its share of the smallest eigenvalue of the normal equations
    slack = (geometry._RELATIVE_RIDGE * singular[0] ** 2 + geometry._RIDGE) / singular[-1] ** 2 * np.abs(expected).max() * 18 + 1e-9
    assert list(model.weights.values()) == pytest.approx(expected, abs=slack)
    assert model.r2 == pytest.approx(1 - left_over / (y @ y), abs=1e-5)
    assert model.pairs == len(steps) * 40 * len(PAIRS)
    degrees = sum(forgetting ** (steps[-1] - step) * 40 * (len(PAIRS) - 1) for step in steps)
    assert model.at(10**6).spread == pytest.approx(math.sqrt(left_over / degrees), rel=1e-3)


def test_an_image_s_own_difficulty_leaves_no_mark():
    linear = np.random.default_rng(2).normal(size=len(FEATURES))
    # without noise but 10 per image: only the exact weights explain everything, up to the ridge
    model, _ = observed(range(8), 0.98, linear=linear, noise=0.0)
    assert model.r2 == pytest.approx(1, abs=1e-6)


def test_losses_that_are_not_finite_are_left_out():
    whole, holed = Geometry(), Geometry()
    params = rows("byol", 300)
    loss_BP = torch.randn(300, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole.observe(0, params.images(slice(0, 200)), PAIRS, loss_BP[:200])
    holes = loss_BP.clone()
    holes[200:, 1:] = math.nan  # one pair alone tells nothing beside its own mean
    holes[200::2, 0] = math.inf
    holed.observe(0, params, PAIRS, holes)
    assert list(holed.weights.values()) == pytest.approx(list(whole.weights.values()), rel=1e-12)
    assert holed.pairs == 200 * 6 + 50


def test_before_it_has_seen_enough_less_overlap_is_harder():
    model, _ = observed([0], 0.98, images=ENOUGH_PAIRS // len(PAIRS) - 1)
    assert model.weights == {name: -1.0 if name == "iou" else 0.0 for name in FEATURES} and model.r2 == 0
    model.observe(1, rows(images=10), PAIRS, torch.zeros(10, 6))
    assert model.weights["iou"] != -1


def test_weights_choose_a_delay_after_their_losses_and_nothing_is_read_before():
    steps = [0, 3, 4]
    model, _ = observed(steps, 0.9, images=200)
    alone = [observed(steps[: count + 1], 0.9, images=200)[0] for count in range(3)]
    assert [model.at(step) for step in (0, DELAY - 1)] == [BEFORE, BEFORE] and len(model._pending) == 3
    for step, expected in ((DELAY, alone[0]), (DELAY + 2, alone[0]), (DELAY + 3, alone[1]), (DELAY + 4, alone[2]), (99, alone[2])):
        assert dict(zip(FEATURES, model.at(step).weight, strict=True)) == expected.weights
        assert model.at(DELAY) == alone[0].at(DELAY)  # asked out of order


def test_what_no_later_step_needs_is_forgotten():
    model, most = Geometry(), 0
    for step in range(40):
        model.at(step)
        model.observe(step, rows(seed=step, images=200), PAIRS, torch.randn(200, 6))
        most = max(most, len(model._fitted))
    assert 0 < most <= DELAY + 1


def test_a_state_goes_on_as_if_nothing_had_happened():
    going, _ = observed(range(12), 0.98, images=200)
    resumed = Geometry(0.98)
    resumed.load_state_dict(json.loads(json.dumps(going.state_dict())))
    for step in range(12, 30):
        assert going.at(step) == resumed.at(step)
        params, losses = rows(seed=step, images=50), torch.randn(50, 6)
        for model in (going, resumed):
            model.observe(step, params, PAIRS, losses)
    assert going.weights == resumed.weights and going.pairs == resumed.pairs and going.r2 == resumed.r2
    assert "iou" in repr(going)


def test_a_state_of_other_features_or_none_begins_anew():
    model, _ = observed(range(12), 0.98, images=200)
    state = model.state_dict()
    for other in (None, {**state, "features": ["iou"]}):
        model.load_state_dict(state)
        assert model.pairs
        model.load_state_dict(other)
        assert model.pairs == 0 and model.at(10**6) == BEFORE


@pytest.mark.parametrize("forgetting", [0, 1.5, True, "much"])
def test_forgetting_must_be_a_share(forgetting):
    with pytest.raises(SelectionError, match="0 < forgetting <= 1"):
        Geometry(forgetting)


def test_a_copy_is_of_the_moment():
    losses = torch.tensor([[1.0, 2.0]])
    copy = HostCopy(losses)
    losses.zero_()
    assert copy.numpy().tolist() == [[1.0, 2.0]]


def test_a_copy_from_another_device_than_the_current_one_is_waited_for_there(monkeypatch):
    losses, make, waited = torch.tensor([[1.0, 2.0]]), torch.empty, []

    class OnSecondDevice:
        device, shape, dtype = torch.device("cuda", 1), losses.shape, losses.dtype

        def detach(self):
            return losses

    class Stream:
        def __init__(self, device):
            self.device = device

        def record_event(self):
            return self

        def synchronize(self):
            waited.append(self.device)

    monkeypatch.setattr(torch, "empty", lambda *shape, pin_memory, **options: make(*shape, **options))
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    copy = HostCopy(OnSecondDevice())
    assert not waited and copy.numpy().tolist() == [[1.0, 2.0]]
    assert waited == [torch.device("cuda", 1)]


def test_values_on_their_way_are_waited_for_before_they_are_read():
    class Event:
        def synchronize(self):
            copy._values.fill_(3)  # they arrive

    copy = HostCopy(torch.zeros(1, 2))
    copy._arrived = Event()
    assert copy.numpy().tolist() == [[3.0, 3.0]]
