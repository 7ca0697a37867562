"""A rule on rows: every kind of step obeys it, and what is chosen is what a brute force over the allowed pairs would choose."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hvs_data as hvs
from given_losses import Numbered, numbered_views
from hvs_data import SelectionError, rules
from hvs_data.objectives import AdditiveObjective
from multi_crop import Terms, every_combination, make_pixels, make_recipe, make_rows, sum_of_terms


class MeanTerms(AdditiveObjective):
    """Terms of as many views as there are: the distance of their means."""

    def encode(self, pixels):
        return pixels.mean((1, 2, 3))[:, None], pixels.mean((1, 2, 3))[:, None]

    def encode_local(self, pixels):
        return pixels.mean((1, 2, 3))[:, None]

    def term_table(self, teacher, student, local, views):
        students = student if local is None else torch.cat([student, local], dim=1)
        return (teacher - students.transpose(1, 2)).abs()


def plain_iou(a, b):
    top, left = max(a[0], b[0]), max(a[1], b[1])
    bottom, right = min(a[0] + a[2], b[0] + b[2]), min(a[1] + a[3], b[1] + b[3])
    shared = max(bottom - top, 0) * max(right - left, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def by_hand(allows, params):
    """bool [B, V, V] from a function of two boxes, pair by pair."""
    boxes = params.box.tolist()
    return torch.tensor([[[allows(a, b) for b in image] for a in image] for image in boxes])


# ---- the rules by name ----


@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]))
@settings(deadline=None, max_examples=20)
def test_rules_by_name_say_what_their_definition_says(seed, share):
    params = make_rows(make_recipe(["view"] * 4, 0), 6, seed=seed)
    area = 40 * 50
    assert torch.equal(rules.MinIoU(share)(params), by_hand(lambda a, b: np.float32(plain_iou(a, b)) >= np.float32(share), params))
    assert torch.equal(rules.MaxIoU(share)(params), by_hand(lambda a, b: np.float32(plain_iou(a, b)) <= np.float32(share), params))
    expected = by_hand(lambda a, b: min(a[2] * a[3], b[2] * b[3]) / area >= share, params)
    assert torch.equal(rules.MinArea(share)(params), expected)
    both, either = rules.MinIoU(share) & rules.MinArea(0.3), rules.MinIoU(share) | rules.MinArea(0.3)
    assert torch.equal(both(params), rules.MinIoU(share)(params) & rules.MinArea(0.3)(params))
    assert torch.equal(either(params), rules.MinIoU(share)(params) | rules.MinArea(0.3)(params))


def test_rules_join_with_functions_and_are_equal_when_they_say_the_same():
    params = make_rows(make_recipe(["view"] * 4, 0), 6)

    def upright(rows):
        tall = rows.box[..., 2] > rows.box[..., 3]
        return tall[:, :, None] == tall[:, None, :]

    expected = upright(params) & rules.MaxIoU(0.5)(params)
    for joined in (rules.MaxIoU(0.5) & upright, upright & rules.MaxIoU(0.5)):
        assert torch.equal(joined(params), expected)
    assert rules.MinIoU(0.2) & rules.MinArea(0.1) == rules.MinIoU(0.2) & rules.MinArea(0.1) != rules.MinIoU(0.2) & rules.MinArea(0.2)


def test_rows_know_the_size_of_their_image():
    params = hvs.sample_views(hvs.recipes.simsiam(candidates=3), seed=0, epoch=0, index=[0, 1], height=[40, 300], width=[50, 200])
    assert params.image_size.tolist() == [[40, 50], [300, 200]]
    assert params.images([1]).image_size.tolist() == [[300, 200]]
    assert params.take(torch.tensor([[2, 0], [0, 1]])).image_size.tolist() == [[40, 50], [300, 200]]
    assert hvs.ViewParams.concatenate([params, params.images([1])]).image_size.tolist() == [[40, 50], [300, 200], [300, 200]]


# ---- every kind of step ----

KINDS = [
    {},
    {"policy": "easiest"},
    {"policy": "random"},
    {"policy": "smallest_iou"},
    {"policy": "quantile", "quantile": 0.5},
    {"policy": "softmax", "temperature": 0.5},
    {"every": 2},
    {"warmup": 3},
    {"probability": 0.5},
    {"prefilter": 3},
    {"prefilter": 2},
    {"prefilter": 4, "policy": "easiest", "every": 2},
    {"limit": 2},
    {"bn": "per_view", "chunk": 2},
    {"budget": "cheap"},
    {"budget": "balanced"},
]
LAYOUTS = [(("view",) * 6, False), (("view",) * 5, True), (("global1",) * 3 + ("global2",) * 3, False)]


@pytest.mark.parametrize(("roles", "ordered"), LAYOUTS, ids=str)
@pytest.mark.parametrize("options", KINDS, ids=str)
def test_no_kind_of_step_chooses_a_pair_that_is_not_allowed(options, roles, ordered):
    """Before there were rules, a pair could be forbidden only by the loss NaN, which steps that do not score never saw."""
    images, views = 12, len(roles)
    recipe = make_recipe(roles, 0)
    seen = {"yes": 0, "no": 0}
    for threshold in (0.3, 0.8):
        losses = torch.randn(images, views, views, generator=torch.Generator().manual_seed(1))
        selector = hvs.HardViewSelector(Numbered(losses, ordered), allowed=rules.MinIoU(threshold), **options)
        counted = 0
        for step in range(9):
            params = make_rows(recipe, images, seed=step)
            selector(numbered_views(views, images), params)
            selection = selector.last
            iou = hvs.iou(params)
            first = tuple(torch.nonzero(selection.legal)[0].tolist())
            if roles[0] == "global1":
                first = (0, 3)
            for image, pair in enumerate(map(tuple, selection.pair.tolist())):
                assert selection.legal[pair]
                possible = (iou[image] >= threshold) & selection.legal
                assert torch.equal(selection.allowed[image], possible)
                if possible.any():
                    assert possible[pair]
                    seen["yes"] += 1
                else:
                    assert pair == first
                    counted += 1
                    seen["no"] += 1
            assert selection.none_allowed == int((~((iou >= threshold) & selection.legal).any(2).any(1)).sum())
            assert selector.none_allowed == counted
    assert min(seen.values()) > 5


@settings(deadline=None, max_examples=60)
@given(
    layout=st.sampled_from(LAYOUTS),
    policy=st.sampled_from(["hardest", "easiest", "quantile", "smallest_iou", "random"]),
    missing=st.floats(0, 1),
    forbidden=st.floats(0, 1),
    seed=st.integers(0, 10**6),
)
def test_the_choice_is_that_of_a_brute_force_over_the_allowed_pairs(layout, policy, missing, forbidden, seed):
    roles, ordered = layout
    images, views = 5, len(roles)
    params = make_rows(make_recipe(roles, 0), images, seed=seed)
    draw = torch.Generator().manual_seed(seed)
    losses = torch.randn(images, views, views, generator=draw)
    losses = losses if ordered else losses + losses.transpose(1, 2)
    holes = torch.rand(images, views, views, generator=draw) < missing
    losses = losses.masked_fill(holes | (holes.transpose(1, 2) & (not ordered)), math.nan)
    table = torch.rand(images, views, views, generator=draw) >= forbidden
    selector = hvs.HardViewSelector(Numbered(losses, ordered), policy=policy, quantile=0.5, allowed=lambda rows: table)
    selection = selector.select(numbered_views(views, images), params)
    iou = hvs.iou(params)
    legal = sorted(map(tuple, torch.nonzero(selection.legal).tolist()))
    for image in range(images):
        possible = [pair for pair in legal if table[image][pair]] or legal[:1]
        finite = [pair for pair in possible if math.isfinite(losses[image][pair])]
        if policy == "random":
            expected = possible[0]
        elif policy == "smallest_iou":
            expected = min(possible, key=lambda pair: float(iou[image][pair]))
        elif not finite:
            expected = possible[0]
        else:
            ranked = sorted(finite, key=lambda pair: float(losses[image][pair]))
            place = {"easiest": 0, "hardest": -1, "quantile": math.floor(0.5 * (len(ranked) - 1) + 0.5)}[policy]
            expected = ranked[place]
        assert tuple(selection.pair[image].tolist()) == expected
        if selection.scored:
            told = {pair for pair in legal if not math.isnan(selection.losses[image][pair])}
            assert told == set(finite)
    if selection.scored:
        open_pairs = [[pair for pair in legal if table[b][pair]] or legal[:1] for b in range(images)]
        assert int(selection.non_finite) == sum(math.isnan(losses[b][pair]) for b in range(images) for pair in open_pairs[b])


@settings(deadline=None, max_examples=25)
@given(
    policy=st.sampled_from(["hardest", "easiest", "smallest_iou", "random"]),
    limit=st.sampled_from([None, 6]),
    forbidden=st.floats(0, 1),
    seed=st.integers(0, 10**6),
)
def test_with_local_views_the_rule_is_about_the_pair(policy, limit, forbidden, seed):
    recipe, images = make_recipe(locals_=4, chosen=2), 4
    params, pixels = make_rows(recipe, images, seed=seed), make_pixels(recipe, images, seed=seed)
    views = recipe.num_views
    draw = torch.Generator().manual_seed(seed)
    table = torch.rand(images, views, views, generator=draw) >= forbidden
    terms = torch.randn(images, 4, views, generator=draw)
    selector = hvs.HardViewSelector(Terms(terms), policy=policy, allowed=lambda rows: table, limit=limit)
    selection = selector.select(pixels, params)
    combos = every_combination(recipe)
    pairs = list(dict.fromkeys(combo[:2] for combo in combos))
    for image in range(images):
        slots = tuple(selection.slots[image].tolist())
        possible = [pair for pair in pairs if table[image][pair]] or pairs[:1]
        assert slots[:2] in possible
        if policy == "random":
            assert slots == (*possible[0], *combos[0][2:])
        elif policy in ("hardest", "easiest") and limit is None:
            sign = 1 if policy == "hardest" else -1
            best = max(sign * sum_of_terms(terms[image], combo, recipe) for combo in combos if combo[:2] in possible)
            assert sign * sum_of_terms(terms[image], slots, recipe) == pytest.approx(best, abs=1e-5)  # float32 terms, summed in two orders


@pytest.mark.parametrize("prefilter", [2, 3])
def test_rows_choose_among_allowed_pairs_beside_local_views(prefilter):
    recipe, images = make_recipe(locals_=4, chosen=2), 8
    globals_ = [slot for slot, role in enumerate(recipe.slot_roles) if role.name != "local"]
    pairs = list(dict.fromkeys(combo[:2] for combo in every_combination(recipe)))
    for seed in range(12):
        params, pixels = make_rows(recipe, images, seed=seed), make_pixels(recipe, images, seed=seed)
        allowed = torch.rand(images, recipe.num_views, recipe.num_views, generator=torch.Generator().manual_seed(seed)) < 0.4
        selector = hvs.HardViewSelector(MeanTerms(), prefilter=prefilter, allowed=lambda rows, allowed=allowed: allowed)
        for _ in range(2):  # of prefilter=2, a step that scores and one that does not
            selection = selector.select(pixels, params)
            for image, pair in enumerate(map(tuple, selection.pair.tolist())):
                assert pair in ([each for each in pairs if allowed[image][each]] or pairs[:1]) and set(pair) <= set(globals_)


@pytest.mark.parametrize("ordered", [False, True])
def test_a_rule_is_what_nan_in_the_objective_is_to_steps_that_score(ordered):
    params = make_rows(make_recipe(["view"] * 5, 0), 8)
    losses = torch.randn(8, 5, 5, generator=torch.Generator().manual_seed(0))
    losses = losses if ordered else losses + losses.transpose(1, 2)
    allowed = hvs.iou(params) >= 0.3
    allowed[:, 0, 1] = True
    for policy in ("hardest", "easiest", "quantile", "softmax"):
        by_rule = hvs.HardViewSelector(Numbered(losses, ordered), policy=policy, allowed=lambda rows: allowed)
        by_nan = hvs.HardViewSelector(Numbered(losses.masked_fill(~allowed, math.nan), ordered), policy=policy)
        views = numbered_views(5, 8)
        a, b = by_rule.select(views, params), by_nan.select(views, params)
        legal = a.legal
        assert torch.equal(a.slots, b.slots) and torch.equal(a.losses[:, legal].nan_to_num(9), b.losses[:, legal].nan_to_num(9))
        assert int(a.non_finite) == 0 < int(b.non_finite)


def test_prefilter_keeps_views_of_allowed_pairs():
    """Kept views hold an allowed pair wherever there is one, though pairs that are foretold to be harder may not be chosen."""
    params = make_rows(make_recipe(["view"] * 8, 0), 32)
    rule = rules.MinIoU(0.4)
    allowed = rule(params)
    for count in (2, 3, 5):
        selector = hvs.HardViewSelector(Numbered(torch.zeros(32, 8, 8)), prefilter=count, allowed=rule)
        step = 1  # of prefilter=2, one that does not ask
        kept = selector.narrowing(step, params).slots(32, params)
        for image in range(32):
            if any(allowed[image, i, j] for i, j in itertools.combinations(range(8), 2)):
                assert any(allowed[image, i, j] for i, j in itertools.combinations(kept[image].tolist(), 2))
            else:
                assert kept[image].tolist()[:2] == [0, 1]


def test_what_it_counts_is_in_its_state():
    params = make_rows(make_recipe(["view"] * 4, 0), 6)
    make = lambda: hvs.HardViewSelector(Numbered(torch.zeros(6, 4, 4)), allowed=lambda rows: torch.zeros(6, 4, 4, dtype=torch.bool))  # noqa: E731
    selector, resumed = make(), make()
    selector.select(numbered_views(4, 6), params)
    resumed.load_state_dict(json.loads(json.dumps(selector.state_dict())))
    resumed.select(numbered_views(4, 6), params)
    assert (selector.none_allowed, resumed.none_allowed, resumed.last.none_allowed) == (6, 12, 6)
    assert resumed.last.pair.tolist() == [[0, 1]] * 6


# ---- refused ----


@pytest.mark.parametrize("policy", ["hardest", "random", "smallest_iou"])
@pytest.mark.parametrize("source", [None, make_recipe(["view"] * 3, 0)], ids=["bare", "recipe"])
def test_candidates_without_rows_are_refused(policy, source):
    selector = hvs.HardViewSelector(Numbered(torch.zeros(2, 3, 3)), policy=policy, allowed=rules.MinIoU(0.2))
    with pytest.raises(SelectionError, match=r"allowed= reads the candidates' rows.*pass params"):
        selector(numbered_views(3, 2), source)
    assert selector.step == 0
    selector(numbered_views(3, 2), make_rows(make_recipe(["view"] * 3, 0), 2))


@pytest.mark.parametrize(
    "returned",
    [torch.ones(2, 3, 3), torch.ones(2, 3, dtype=torch.bool), torch.ones(3, 3, dtype=torch.bool), True, None],
    ids=["float", "one view", "no image", "bool", "None"],
)
def test_a_function_that_returns_no_table_is_refused(returned):
    selector = hvs.HardViewSelector(Numbered(torch.zeros(2, 3, 3)), allowed=lambda rows: returned)
    with pytest.raises(SelectionError, match=r"returns bool of shape \(2, 3, 3\)"):
        selector(numbered_views(3, 2), make_rows(make_recipe(["view"] * 3, 0), 2))


@pytest.mark.parametrize("allowed", [0.2, "iou", rules.MinIoU, [rules.MinIoU(0.2), 0.1], torch.ones(2, 3, 3, dtype=torch.bool)], ids=str)
def test_what_is_no_rule_is_refused(allowed):
    with pytest.raises(SelectionError, match="allowed must be a function of rows"):
        hvs.HardViewSelector(Numbered(torch.zeros(2, 3, 3)), allowed=allowed)


@pytest.mark.parametrize("value", [-0.1, 1.1, True, "a", math.nan, None])
@pytest.mark.parametrize("rule", [rules.MinIoU, rules.MaxIoU, rules.MinArea])
def test_numbers_that_are_no_share_are_refused(rule, value):
    with pytest.raises(SelectionError, match="takes a number from 0 to 1"):
        rule(value)


def test_rows_of_images_of_unknown_size_are_refused_by_area_alone():
    from dataclasses import replace

    params = replace(make_rows(make_recipe(["view"] * 3, 0), 2), image_size=None)
    rules.MinIoU(0.2)(params)
    with pytest.raises(SelectionError, match="image_size"):
        rules.MinArea(0.2)(params)
    written = replace(params, image_size=torch.tensor([[40, 50], [40, 50]]))
    rules.MinArea(0.2)(written)
