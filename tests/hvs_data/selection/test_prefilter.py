"""A selector that asks the model for a few of the candidates only."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import hvs_data as hvs
from given_losses import Numbered, numbered_views
from hvs_data import Objective, SelectionError
from hvs_data.selection.geometry import DELAY
from hvs_data.selection.plan import FIT_EVERY, FIT_VIEWS
from multi_crop import Terms, every_combination, make_pixels, make_recipe, make_rows, sum_of_terms


def random_losses(images, views, seed=0):
    losses = torch.randn(images, views, views, generator=torch.Generator().manual_seed(seed))
    return losses + losses.transpose(1, 2)


def plain_recipe(views):
    return make_recipe(roles=("view",) * views, locals_=0, chosen=0)


def test_as_many_as_there_are_is_the_exact_choice():
    params, views = make_rows(plain_recipe(5), 6), numbered_views(5, 6)
    losses = random_losses(6, 5)
    exact, filtered = hvs.HardViewSelector(Numbered(losses)), hvs.HardViewSelector(Numbered(losses), prefilter=5)
    for _ in range(3):
        a, b = exact.select(views, params), filtered.select(views, params)
        assert torch.equal(a.slots, b.slots) and torch.equal(a.losses.nan_to_num(9), b.losses.nan_to_num(9))


@settings(deadline=None, max_examples=40)
@given(
    roles=st.sampled_from([("view",) * 6, ("global1",) * 3 + ("global2",) * 3, ("global1",) * 1 + ("global2",) * 4]),
    count=st.integers(3, 7),
    policy=st.sampled_from(["hardest", "easiest"]),
    ordered=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_the_best_pair_of_the_kept_views_is_chosen(roles, count, policy, ordered, seed):
    images, views = 4, len(roles)
    params = make_rows(make_recipe(roles=roles, locals_=0, chosen=0), images, seed=seed)
    losses = torch.randn(images, views, views, generator=torch.Generator().manual_seed(seed))
    losses = losses if ordered else losses + losses.transpose(1, 2)
    losses[0, 0, 1] = losses[0, 1, 0] = math.nan
    objective = Numbered(losses, ordered)
    selector = hvs.HardViewSelector(objective, prefilter=count, policy=policy)
    kept_BK = selector.narrowing(0, params).slots(images, params)
    chosen = selector(numbered_views(views, images), params)
    selection = selector.last
    kept = min(count, views)
    assert objective.shown == [kept] and selection.scored
    assert selection.params is params and selection.losses.shape == (images, views, views) and selection.legal.shape == (views, views)
    sign = -1 if policy == "easiest" else 1
    for image in range(images):
        slots = list(range(views)) if kept_BK is None else kept_BK[image].tolist()
        legal = [(i, j) for i in slots for j in slots if selection.legal[i, j]]
        finite = [pair for pair in legal if math.isfinite(losses[image][pair])]
        expected = max(finite, key=lambda pair: sign * losses[image][pair])
        assert tuple(selection.pair[image].tolist()) == expected
        assert [float(view[image, 0, 0, 0]) for view in chosen] == list(expected)
        scored = {(i, j) for i in range(views) for j in range(views) if not math.isnan(selection.losses[image, i, j])}
        assert scored == set(finite) | (set() if ordered else {(j, i) for i, j in finite})
        assert float(selection.loss[image]) == float(losses[image][expected])
    assert int(selection.non_finite) == sum(  # of the pairs that were scored
        not math.isfinite(losses[image][i, j])
        for image in range(images)
        for i in (range(views) if kept_BK is None else kept_BK[image].tolist())
        for j in (range(views) if kept_BK is None else kept_BK[image].tolist())
        if selection.legal[i, j]
    )


def test_needed_views_alone_give_the_same_selection():
    params, losses = make_rows(plain_recipe(6), 5), random_losses(5, 6)
    whole, few = (hvs.HardViewSelector(Numbered(losses), prefilter=3) for _ in range(2))
    views = torch.stack(numbered_views(6, 5), 1)
    for _ in range(DELAY + 2):
        slots = few.narrowing(few.step, params).slots(5, params)
        shown = [views[torch.arange(5), column] for column in slots.unbind(1)]
        a, b = whole(views, params), few(shown, params, slots=slots)
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
        assert torch.equal(whole.last.slots, few.last.slots) and torch.equal(whole.last.losses.nan_to_num(9), few.last.losses.nan_to_num(9))
        assert few.last.params is params


def test_what_hardness_depends_on_is_found():
    """Losses that fall with contrast, which the prior knows nothing of: the fit finds the hardest pair, but for rounding."""
    recipe = hvs.recipes.simsiam(candidates=8, size=16)
    objective = Numbered(None)
    selector = hvs.HardViewSelector(objective, prefilter=4)
    found = []
    for step in range(2 * DELAY):
        params = hvs.sample_views(recipe, seed=1, epoch=step, index=range(200), height=[40] * 200, width=[50] * 200)
        objective.losses = -(params.contrast[:, :, None] + params.contrast[:, None, :])
        kept_BK = selector.narrowing(step, params).slots(200, params)
        lowest_B2 = params.contrast.argsort(1)[:, :2]
        found.append((kept_BK[:, None] == lowest_B2[:, :, None]).any(2).all(1).float().mean().item())
        selector.select(numbered_views(8, 200), params)
    # two given ones of eight views are among four kept by something else in 4/8 * 3/7 of images, .21; contrasts drawn from 2^24 values tie
    # next to never
    assert max(found[:DELAY]) < 0.5 and min(found[DELAY:]) > 0.99
    weights = selector.geometry.weights
    assert weights["contrast_sum"] == pytest.approx(-1, abs=1e-3) and max(abs(w) for n, w in weights.items() if n != "contrast_sum") < 1e-2
    assert selector.geometry.r2 == pytest.approx(1, abs=1e-3) and selector.geometry.pairs == 2 * DELAY * 200 * 6


def test_two_views_are_chosen_by_rows_and_the_model_is_asked_now_and_then():
    params, losses = make_rows(plain_recipe(6), 300), random_losses(300, 6)
    objective = Numbered(losses)
    selector = hvs.HardViewSelector(objective, prefilter=2)
    asked = []
    for step in range(2 * FIT_EVERY + 1):
        narrowing = selector.narrowing(step, params)
        selection = selector.select(None if not selector.scores(step) else numbered_views(6, 300), params)
        assert selection.scored == narrowing.asks == selector.scores(step)
        if selection.scored:
            asked.append(step)
            assert selection.policy == "hardest"
        else:
            assert selection.policy == "geometry" and selection.losses.isnan().all() and selection.weights is None
            assert torch.equal(selection.slots, narrowing.slots(300, params))
    assert asked == [0, FIT_EVERY, 2 * FIT_EVERY] and objective.shown == [FIT_VIEWS] * 3
    assert selector.geometry.pairs == 3 * 300 * 6


@pytest.mark.parametrize(
    ("every", "warmup", "expected"), [(3, 0, [0, 9, 18, 24, 33, 42, 48]), (1, 20, [24, 32, 40, 48]), (20, 0, [0, 20, 40])]
)
def test_a_schedule_holds_for_two_views_too(every, warmup, expected):
    params = make_rows(plain_recipe(5), 2)
    selector = hvs.HardViewSelector(Numbered(random_losses(2, 5)), prefilter=2, every=every, warmup=warmup)
    policies = [selector.select(numbered_views(5, 2), params) for _ in range(50)]
    assert [selection.step for selection in policies if selection.scored] == expected
    in_schedule = [step for step in range(warmup, 50) if step % every == 0]
    assert [selection.step for selection in policies if selection.policy == "geometry"] == sorted(set(in_schedule) - set(expected))
    assert {selection.policy for selection in policies if selection.step not in in_schedule} <= {"random"}


def test_local_views_are_all_scored():
    recipe = make_recipe(locals_=5, chosen=2)
    params, images = make_rows(recipe, 4), 4
    kept_BK = hvs.HardViewSelector(Terms(torch.zeros(1)), prefilter=2 + 1).narrowing(0, params).slots(images, params)
    assert kept_BK.shape == (4, 3 + 5) and kept_BK[:, 3:].tolist() == [[4, 5, 6, 7, 8]] * 4
    draw = torch.Generator().manual_seed(0)
    table_BTS = torch.randn(images, 4, 9, generator=draw)
    # what the model would say of the kept views alone
    small_BTS = torch.stack([table[kept[:3]][:, kept] for table, kept in zip(table_BTS, kept_BK, strict=True)])
    selector = hvs.HardViewSelector(Terms(small_BTS), prefilter=3)
    selector(make_pixels(recipe, images), params)
    for image, kept in enumerate(kept_BK.tolist()):
        possible = [slots for slots in every_combination(recipe) if set(slots[:2]) <= set(kept)]
        expected = max(possible, key=lambda slots: sum_of_terms(table_BTS[image], slots, recipe))
        assert tuple(selector.last.slots[image].tolist()) == expected
    assert selector.last.losses[0].isfinite().sum() == 2 * len(
        {s[:2] for s in every_combination(recipe) if set(s[:2]) <= set(kept_BK[0].tolist())}
    )


def test_masks_go_with_their_rows():
    class Masked(Objective):
        extras = ("mask",)
        masks = []

        def encode(self, pixels, mask):
            self.masks.append((pixels[:, 0, 0, 0].long(), mask))
            return pixels.flatten(1)

    recipe = make_recipe(roles=("global1",) * 4 + ("global2",) * 4, locals_=0, chosen=0, sides=(16, 8), masking=hvs.recipes.Masking(4))
    params = make_rows(recipe, 3)
    hvs.HardViewSelector(Masked(), prefilter=3).select(numbered_views(8, 3), params)
    (slot_N, mask_NGG) = Masked.masks[0]
    assert len(slot_N) == 9
    for number, (slot, mask_GG) in enumerate(zip(slot_N, mask_NGG, strict=True)):
        assert torch.equal(mask_GG, params.mask[number % 3, slot])


def test_a_state_holds_what_was_learned():
    def make():
        return hvs.HardViewSelector(Numbered(random_losses(200, 6)), prefilter=3)

    params, views = make_rows(plain_recipe(6), 200), numbered_views(6, 200)
    going, resumed = make(), make()
    for _ in range(DELAY + 3):
        going.select(views, params)
    resumed.load_state_dict(json.loads(json.dumps(going.state_dict())))
    for _ in range(DELAY + 3):
        assert torch.equal(going.select(views, params).slots, resumed.select(views, params).slots)
    assert going.geometry.weights == resumed.geometry.weights
    resumed.load_state_dict({"step": 5, "seed": 0})  # of a selector without
    assert resumed.step == 5 and resumed.geometry.pairs == 0
    assert set(hvs.HardViewSelector(Numbered(None)).state_dict()) == {"step", "seed"}


def test_what_rows_are_needed_for_is_said():
    selector = hvs.HardViewSelector(Numbered(random_losses(2, 5)), prefilter=3)
    for params in (None, plain_recipe(5)):
        with pytest.raises(SelectionError, match="prefilter reads the candidates' rows, got candidates without rows; pass params"):
            selector(numbered_views(5, 2), params)
    with pytest.raises(SelectionError, match="slots= says which of the candidates' rows are shown, got None"):
        selector(numbered_views(3, 2), None, slots=torch.zeros(2, 3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefilter": 1}, "prefilter must be a whole number of at least 2, or None, got 1"),
        ({"prefilter": True}, "prefilter must be a whole number"),
        ({"prefilter": 2.0}, "prefilter must be a whole number"),
        ({"prefilter": 3, "policy": "softmax"}, "prefilter goes with policies that seek"),
        ({"prefilter": 3, "policy": "random"}, "prefilter goes with policies that seek"),
        ({"score_size": 1.5}, "a share of the size below 1"),
        ({"score_size": -0.5}, "a share of the size below 1"),
        ({"score_size": {"local": 0.0}}, r"score_size\['local'\] must be"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(options, message):
    with pytest.raises(SelectionError, match=message):
        hvs.HardViewSelector(Numbered(None), **options)


def test_a_share_of_each_view_s_own_size():
    def sizes(score_size, own=(224, 96)):
        return hvs.HardViewSelector(Numbered(None), score_size=score_size).score_sizes(("global1", "local"), own)

    assert sizes(0.5) == (112, 48) and sizes(0.375) == (84, 36) and sizes(0.001) == (1, 1)
    assert sizes({"local": 0.5}) == (224, 48) and sizes({"global1": 112, "local": 0.25}) == (112, 24)
    assert sizes(112) == (112, 48) and sizes(300) == (224, 96) and sizes(None) == (224, 96)


def test_scoring_some_views_leaves_no_trace():
    torch.manual_seed(0)
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.projector, model.predictor = nn.Linear(4, 4), nn.Linear(4, 4)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    selector = hvs.HardViewSelector(hvs.objectives.SimSiam(model), prefilter=3)
    numpy_state = np.random.get_state()[1].copy()
    for seed in range(3):
        selector(make_pixels(plain_recipe(6), 4), make_rows(plain_recipe(6), 4, seed=seed))
    assert torch.equal(torch.get_rng_state(), state) and np.array_equal(np.random.get_state()[1], numpy_state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert selector.last.losses[0].isfinite().sum() == 2 * 3
