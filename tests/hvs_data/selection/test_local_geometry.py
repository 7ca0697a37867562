"""Local views that rows choose beside a pair: against every combination written out, and least squares in closed form."""

import json
import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hvs_data as hvs
from hvs_data import rules
from hvs_data.rows.features import FEATURES, cross_features, pair_features, pair_scores
from hvs_data.selection.geometry import BEFORE, DELAY, ENOUGH_PAIRS, Geometry, Weights
from hvs_data.selection.narrowing import PROMISING, Narrowing
from hvs_data.selection.plan import FIT_EVERY
from multi_crop import Terms, make_pixels, make_recipe, make_rows
from row_features import FLOAT32, features_by_hand

ONE, TWO = ("view",) * 5, ("global1", "global1", "global2", "global2")


class Ordered(Terms):
    """The first global view is the teacher's alone."""

    ordered = True


def weights_of(seed, spread=0.5):
    return Weights(tuple(torch.randn(len(FEATURES), generator=torch.Generator().manual_seed(seed)).tolist()), spread)


def added_by_hand(params, image, weights, globals_, local):
    """What a local view is foretold to add beside some global ones."""
    return math.fsum(
        weight * feature
        for view in globals_
        for weight, feature in zip(weights.weight, features_by_hand(params, image, view, local), strict=True)
    )


# ---- the features ----


def test_the_features_of_other_views_are_those_of_all_views():
    params = make_rows(make_recipe(locals_=5, chosen=2), 4)
    first, others = [2, 0], [4, 6, 8]
    pairs = [(i, j) for i in first for j in others]
    expected = pair_features(params, pairs).reshape(4, 2, 3, -1)
    assert np.array_equal(cross_features(params.views(first), params.views(others)), expected)
    weights = weights_of(0)
    scores = pair_scores(params.views(first), weights.weight, params.views(others))
    assert np.array_equal(scores, pair_scores(params, weights.weight)[:, first][:, :, others])


# ---- the choice ----


@settings(deadline=None, max_examples=60)
@given(
    roles=st.sampled_from([ONE, TWO]),
    locals_=st.integers(1, 6),
    share=st.floats(0, 1),
    easiest=st.booleans(),
    compared=st.sampled_from([1, 2]),
    ruled=st.booleans(),
    extra=st.sampled_from([0, 1]),
    seed=st.integers(0, 10**6),
)
def test_the_local_views_that_are_foretold_to_add_most(roles, locals_, share, easiest, compared, ruled, extra, seed):
    chosen = max(1, round(share * locals_))
    recipe = make_recipe(roles=roles, locals_=locals_, chosen=chosen)
    params, images = make_rows(recipe, 4, seed=seed), 4
    selector = hvs.HardViewSelector(
        (Ordered if compared == 1 else Terms)(torch.zeros(1)),
        prefilter=2,
        policy="easiest" if easiest else "hardest",
        allowed=rules.MinIoU(0.3) if ruled else None,
        extra_views=extra,
    )
    weights, beside = weights_of(seed), weights_of(seed + 1)
    selector.geometry._fitted, selector.local_geometry._fitted = [(0, weights)], [(0, beside)]
    selector.step = 1  # the model is not asked
    selection = selector.select(None, params)
    assert selection.policy == "geometry" and not selection.scored
    handed_out = selection.slots.shape[1]
    assert handed_out == 2 + extra + chosen
    for image in range(images):
        pair = selection.pair[image].tolist()
        added = {local: added_by_hand(params, image, beside, pair[:compared], local) for local in range(len(roles), params.num_views)}
        sign = -1 if easiest else 1
        best = max(combinations(added, chosen), key=lambda locals_: sign * math.fsum(added[local] for local in locals_))
        got = tuple(selection.slots[image, 2 + extra :].tolist())
        assert got == tuple(sorted(got)) and len(set(got)) == chosen
        # sums of some features of size 10 with weights of size 1, each with an error of FLOAT32 of its size
        slack = FLOAT32 * 10 * len(FEATURES) * compared * chosen
        assert sign * math.fsum(added[local] for local in got) >= sign * math.fsum(added[local] for local in best) - slack
        ordered = sorted(added.values())
        if min((b - a for a, b in zip(ordered, ordered[1:], strict=False)), default=math.inf) > slack:
            assert got == best


def test_equal_ones_are_the_first():
    params = make_rows(make_recipe(locals_=5, chosen=2), 3)
    layout = hvs.HardViewSelector(Terms(torch.zeros(1)))._plan.layout(params.num_views, params)
    nothing = Weights((0.0,) * len(FEATURES), 1.0)
    narrowing = Narrowing(layout, PROMISING, False, 2, weights_of(0), local_weights=nothing)
    assert narrowing.slots(3, params)[:, 2:].tolist() == [[4, 5]] * 3


def test_before_anything_was_fitted_less_overlap_is_harder():
    params = make_rows(make_recipe(locals_=6, chosen=2), 20)
    selector = hvs.HardViewSelector(Terms(torch.zeros(1)), prefilter=2)
    selector.step = 1
    slots = selector.select(None, params).slots
    for image in range(20):
        pair, locals_ = slots[image, :2].tolist(), slots[image, 2:].tolist()
        overlap_of = {
            local: sum(features_by_hand(params, image, view, local)[FEATURES.index("iou")] for view in pair) for local in range(4, 10)
        }
        expected = sum(sorted(overlap_of.values())[:2])
        assert sum(overlap_of[local] for local in locals_) == pytest.approx(expected, abs=2 * FLOAT32)


@pytest.mark.parametrize(
    ("options", "recipe"),
    [
        ({"prefilter": 3}, {"locals_": 6, "chosen": 2}),  # the model is asked in every step
        ({"prefilter": 2}, {"locals_": 2, "chosen": 2}),  # all are handed out
        ({"prefilter": 2}, {"locals_": 0, "chosen": 0}),
    ],
    ids=str,
)
def test_where_rows_need_not_choose_them_nothing_is_learned(options, recipe):
    recipe = make_recipe(**recipe)
    params = make_rows(recipe, 40)
    shown = min(options["prefilter"] + 2 * (options["prefilter"] == 2), 4)
    selector = hvs.HardViewSelector(Terms(torch.randn(40, shown, shown + len(recipe.slot_roles) - 4)), **options)
    selector.select(make_pixels(recipe, 40), params)
    assert selector.local_geometry.pairs == 0 and "local_geometry" not in selector.state_dict()
    if options["prefilter"] == 2:
        slots = selector.select(None, params).slots
        assert (slots[:, 2:] == torch.arange(4, 4 + slots.shape[1] - 2)).all()


# ---- the fit ----


def planted(params, linear, noise=0.0, seed=0):
    """Terms [B, T, S] whose local part is linear in the rows' features and has a number of each global view, that is far larger."""
    draw = np.random.default_rng(seed)
    feature_BGLD = cross_features(params.views(range(4)), params.views(range(4, params.num_views)))
    own_BG1 = 100 * draw.normal(size=(params.batch_size, 4, 1))
    local_BGL = feature_BGLD @ linear + own_BG1 + noise * draw.normal(size=feature_BGLD.shape[:3])
    table = np.concatenate([draw.normal(size=(params.batch_size, 4, 4)), local_BGL], axis=2)
    return torch.from_numpy(table)


def test_the_fit_is_least_squares_within_each_pair():
    recipe = make_recipe(locals_=5, chosen=2)
    images, linear = 30, np.random.default_rng(1).normal(size=len(FEATURES))
    model = Geometry(forgetting=0.9)
    rows_X, rows_y = [], []
    steps = [0, 3, 4]
    for step in steps:
        params = make_rows(recipe, images, seed=step)
        table = planted(params, linear, noise=0.5, seed=step)
        pairs = [(0, 2), (0, 3), (1, 2), (1, 3)]
        loss_BPL = torch.stack([table[:, i, 4:] + table[:, j, 4:] for i, j in pairs], 1)
        model.observe_locals(step, params, pairs, range(4, 9), loss_BPL)
        weight = 0.9 ** ((steps[-1] - step) / 2)
        for image in range(images):
            for number, (i, j) in enumerate(pairs):
                of_locals = [[features_by_hand(params, image, view, local) for view in (i, j)] for local in range(4, 9)]
                X = np.array(of_locals).sum(1)
                y = loss_BPL[image, number].numpy()
                rows_X.append(weight * (X - X.mean(0)))
                rows_y.append(weight * (y - y.mean()))
    X, y = np.concatenate(rows_X), np.concatenate(rows_y)
    expected, *_ = np.linalg.lstsq(X, y, rcond=None)
    # the features' float32 moves weights by about FLOAT32 of their size, times the condition of columns that hardly change
    assert list(model.weights.values()) == pytest.approx(expected, abs=2e-2)
    assert model.pairs == len(steps) * images * 4 * 5


@pytest.mark.parametrize(("kind", "policy"), [(Terms, "hardest"), (Terms, "easiest"), (Ordered, "hardest")])
def test_what_local_views_add_is_found(kind, policy):
    """A selector learns which rows of local views add most, and hands those out."""
    recipe = make_recipe(locals_=6, chosen=2)
    images, linear = 100, np.random.default_rng(2).normal(size=len(FEATURES))
    sign = 1 if policy == "hardest" else -1
    table = torch.zeros(images, 4, 10, dtype=torch.float64)
    objective = kind(table)
    selector = hvs.HardViewSelector(objective, prefilter=2, policy=policy)
    regret = []
    for step in range(2 * FIT_EVERY + DELAY):
        params = make_rows(recipe, images, seed=step)
        objective.table = table = planted(params, linear, seed=step)
        asks = selector.scores(step)
        selection = selector.select(make_pixels(recipe, images) if asks else None, params)
        if asks:
            continue
        compared = 1 if kind is Ordered else 2
        added_BL = torch.stack([table[image, pair[:compared], 4:].sum(0) for image, pair in enumerate(selection.pair.tolist())])
        best_B = sign * (sign * added_BL).topk(2, dim=1).values.sum(1)
        regret.append((sign * (best_B - added_BL.gather(1, selection.slots[:, 2:] - 4).sum(1))).mean().item())
    # without noise the fit is exact but for the ridge, as soon as its losses count
    assert regret[0] > 0.5 and regret[-1] < 1e-3
    assert selector.local_geometry.r2 == pytest.approx(1, abs=1e-3)
    assert selector.local_geometry.pairs == 3 * images * 4 * 6


def test_objectives_of_pairs_learn_it_too():
    recipe = make_recipe(roles=("view",) * 4, locals_=5, chosen=2)
    images = 80

    class Given(hvs.Objective):
        def encode(self, pixels):
            return pixels.flatten(1)

        def pair_losses(self, outputs):
            return torch.zeros(images, 4, 4)

        def local_losses(self, outputs, local):
            return self.table[:, :, 4:]

    objective = Given()
    selector = hvs.HardViewSelector(objective, prefilter=2, score_locals=True)
    linear = np.random.default_rng(3).normal(size=len(FEATURES))
    for step in range(FIT_EVERY + 2):
        params = make_rows(recipe, images, seed=step)
        objective.table = planted(params, linear, seed=step)
        selection = selector.select(make_pixels(recipe, images) if selector.scores(step) else None, params)
    added_BL = torch.stack([objective.table[image, pair, 4:].sum(0) for image, pair in enumerate(selection.pair.tolist())])
    assert not selection.scored
    torch.testing.assert_close(added_BL.gather(1, selection.slots[:, 2:] - 4).sum(1), added_BL.topk(2, dim=1).values.sum(1))
    unseen = hvs.HardViewSelector(objective, prefilter=2)
    unseen.step = 1
    assert (unseen.select(None, make_rows(make_recipe(roles=ONE, locals_=2, chosen=2), 3)).slots[:, 2:] == torch.tensor([5, 6])).all()


# ---- state ----


def test_a_state_holds_what_was_learned_and_older_ones_load():
    recipe = make_recipe(locals_=6, chosen=2)
    images = 50

    def make():
        return hvs.HardViewSelector(Terms(torch.zeros(1)), prefilter=2)

    def step_of(selector):
        params = make_rows(recipe, images, seed=selector.step)
        selector.objective.table = planted(params, np.ones(len(FEATURES)), noise=1.0, seed=selector.step)
        return selector.select(make_pixels(recipe, images) if selector.scores(selector.step) else None, params).slots

    going, resumed = make(), make()
    for _ in range(DELAY + 3):
        step_of(going)
    state = json.loads(json.dumps(going.state_dict()))
    assert state["local_geometry"]["pairs"] > ENOUGH_PAIRS
    resumed.load_state_dict(state)
    for _ in range(2 * FIT_EVERY):
        assert torch.equal(step_of(going), step_of(resumed))
    assert going.local_geometry.weights == resumed.local_geometry.weights
    del state["local_geometry"]  # of a version that knew nothing of it
    resumed.load_state_dict(state)
    assert resumed.local_geometry.pairs == 0 and resumed.local_geometry.at(resumed.step) == BEFORE
    assert resumed.geometry.pairs == state["geometry"]["pairs"]
