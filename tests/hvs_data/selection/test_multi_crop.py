"""The choice of global and local views against brute force over every combination of them."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import hvs_data as hvs
from hvs_data import SelectionError
from hvs_data.policies import Hardest, Moment
from hvs_data.rows.layout import layout_of
from hvs_data.selection.combinations import listed_combinations
from multi_crop import Terms, every_combination, make_pixels, make_recipe, make_rows, sum_of_terms

RECIPES = {
    "two roles": make_recipe(),
    "one role": make_recipe(["view"] * 4, 5, 2),
    "two candidates": make_recipe(["global1", "global2"], 3, 2),
    "all local views": make_recipe(locals_=4, chosen=4),
    "no local view chosen": make_recipe(locals_=3, chosen=0),
    "no local candidates": make_recipe(locals_=0),
    "uneven roles": make_recipe(["global1", "global2", "global2"], 4, 1),
}
# sums of a few of these are exact, so that equal losses are equal
TERM = st.sampled_from([0.0, 0.25, 0.5, 1.0, -1.0])
BAD = st.sampled_from([0.0, 1.0, -1.0, math.nan, math.inf, -math.inf])


def table_shape(recipe, images):
    local = sum(role.candidates for role in recipe.roles if role.name == "local")
    return images, recipe.num_views - local, recipe.num_views


def select(table, recipe, images, **options):
    selector = hvs.HardViewSelector(Terms(table), **options)
    return selector.select(make_pixels(recipe, images), make_rows(recipe, images))


def best(table_TS, recipe, sign=1):
    """The combination that is chosen, by the rule; None if no combination's loss is finite."""
    losses = {combination: sum_of_terms(table_TS, combination, recipe) for combination in every_combination(recipe)}
    finite = [combination for combination, loss in losses.items() if math.isfinite(loss)]
    # max takes the first of equals
    return max(finite, key=lambda combination: sign * losses[combination]) if finite else None


@pytest.mark.parametrize("policy", ["hardest", "easiest"])
@pytest.mark.parametrize("name", RECIPES)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_the_best_of_all_combinations(name, policy, data):
    recipe, images = RECIPES[name], 2
    shape = table_shape(recipe, images)
    entries = data.draw(st.lists(data.draw(st.sampled_from([TERM, BAD])), min_size=math.prod(shape), max_size=math.prod(shape)))
    table = torch.tensor(entries).reshape(shape)
    selection = select(table, recipe, images, policy=policy)
    combinations = every_combination(recipe)
    sign = 1 if policy == "hardest" else -1
    for image in range(images):
        expected = best(table[image], recipe, sign)
        assert tuple(selection.slots[image].tolist()) == (expected or combinations[0])
        if expected:
            assert float(selection.loss[image]) == sum_of_terms(table[image], expected, recipe)
        for first in range(recipe.num_views):
            for second in range(recipe.num_views):
                of_pair = [c for c in combinations if c[:2] in ((first, second), (second, first))]
                losses = [loss for c in of_pair if math.isfinite(loss := sum_of_terms(table[image], c, recipe))]
                entry = float(selection.losses[image, first, second])
                if losses:
                    assert entry == sign * max(sign * loss for loss in losses)
                else:
                    # without local views a pair's own loss stands there whatever it is
                    assert not math.isfinite(entry)
    assert {tuple(pair) for pair in selection.legal.nonzero().tolist()} == {combination[:2] for combination in combinations}
    assert torch.equal(selection.pair, selection.slots[:, :2])


def test_hundreds_of_random_tables():
    """Four global candidates of two roles, seven local ones of which three are chosen: 140 combinations an image."""
    recipe, images = RECIPES["two roles"], 400
    combinations = every_combination(recipe)
    assert len(combinations) == 4 * 35
    table = torch.randn(images, 4, 11, generator=torch.Generator().manual_seed(0))
    selection = select(table, recipe, images)
    # float64 sums of 12 float32 terms err by less than 2**-47, and of 400 images the two best are never that close
    losses = torch.tensor([[sum_of_terms(table_TS, combination, recipe) for combination in combinations] for table_TS in table.tolist()])
    assert [tuple(slots) for slots in selection.slots.tolist()] == [combinations[place] for place in losses.argmax(1).tolist()]
    assert torch.equal(selection.loss, losses.amax(1).float())
    assert len(set(map(tuple, selection.slots.tolist()))) > 100


def test_terms_that_no_combination_holds_are_not_counted():
    recipe = make_recipe(["global1", "global1", "global2"], 2, 1)
    table = torch.full((1, 3, 5), torch.nan)
    read = [(0, 2), (2, 0), (0, 0), (2, 2), (1, 2), (2, 1), (1, 1), *((t, s) for t in range(3) for s in (3, 4))]
    for count in range(len(read)):
        assert int(select(table, recipe, 1).non_finite) == len(read) - count
        table[0, read[count][0], read[count][1]] = 0.0
    selection = select(table, recipe, 1)
    # of two views of one role nothing is read
    assert int(selection.non_finite) == 0 and bool(table[0, 0, 1].isnan()) and selection.loss.isfinite().all()
    without_local = make_recipe(["global1", "global1", "global2"], 2, 0)
    assert int(select(table.index_fill(2, torch.tensor([3, 4]), torch.nan), without_local, 1).non_finite) == 0


def test_equal_losses_give_the_first_views():
    recipe = RECIPES["two roles"]
    for policy in ("hardest", "easiest"):
        assert select(torch.zeros(70, 4, 11), recipe, 70, policy=policy).slots.tolist() == [[0, 2, 4, 5, 6]] * 70


def test_nothing_finite_gives_the_first_views():
    recipe = RECIPES["two roles"]
    for policy, options in (("hardest", {}), ("easiest", {}), ("quantile", {}), ("softmax", {}), ("hardest", {"limit": 5})):
        for value in (math.nan, math.inf, -math.inf):
            selection = select(torch.full((2, 4, 11), value), recipe, 2, policy=policy, **options)
            assert selection.slots.tolist() == [[0, 2, 4, 5, 6]] * 2
            assert not selection.loss.isfinite().any() and selection.losses.isnan().all()
            assert int(selection.non_finite) == 2 * (8 + 4 + 28)


def test_roles_may_come_in_any_order():
    """Slots that are not sorted by role, as rows put together by hand may have them."""
    recipe = RECIPES["two roles"]
    order = [4, 2, 5, 0, 6, 3, 7, 8, 1, 9, 10]
    rows, pixels = make_rows(recipe, 30).views(order), make_pixels(recipe, 30)
    table = torch.randn(30, 4, 11, generator=torch.Generator().manual_seed(0))
    # global slots in the new order are 2, 0, 3, 1 of the old; local ones keep theirs
    columns = [2, 0, 3, 1, *range(4, 11)]
    shuffled = hvs.HardViewSelector(Terms(table[:, [2, 0, 3, 1]][:, :, columns])).select([pixels[slot] for slot in order], rows)
    expected = select(table, recipe, 30)
    for image in range(30):
        first, second, *local = (order[slot] for slot in shuffled.slots[image].tolist())
        # the role that comes first in the rows is the trainer's first
        assert [second, first, *local] == expected.slots[image].tolist()
    assert torch.equal(shuffled.loss, expected.loss)


# ---- combinations in a list ----


@pytest.mark.parametrize("limit", [1, 7, 64, 139])
def test_the_best_of_a_sample(limit):
    recipe, images = RECIPES["two roles"], 40
    table = torch.randn(images, 4, 11, generator=torch.Generator().manual_seed(1))
    selector = hvs.HardViewSelector(Terms(table), limit=limit, seed=3)
    rows, pixels = make_rows(recipe, images), make_pixels(recipe, images)
    considered = []
    rounding = 2.0**-20  # of sums below 16 to float32
    for _ in range(3):
        selection = selector.select(pixels, rows)
        layout = layout_of(11, rows, False)
        listed = listed_combinations(layout, Hardest(), limit, Moment(selection.step, seed=3), torch.device("cpu"))
        sample = [
            (*layout.pairs[pair], *(layout.local_slots[place] for place in local))
            for pair, local in zip(listed.pair.tolist(), listed.local.tolist(), strict=True)
        ]
        assert len(set(sample)) == limit and set(sample) <= set(every_combination(recipe))
        for image in range(images):
            losses = {combination: sum_of_terms(table[image], combination, recipe) for combination in sample}
            chosen = max(sample, key=lambda combination: losses[combination])
            assert tuple(selection.slots[image].tolist()) == chosen
            assert float(selection.loss[image]) == pytest.approx(losses[chosen], abs=rounding)
            for i, j in layout.pairs:
                of_pair = [loss for combination, loss in losses.items() if combination[:2] == (i, j)]
                entry = float(selection.losses[image, i, j])
                assert entry == pytest.approx(max(of_pair), abs=rounding) if of_pair else math.isnan(entry)
        considered.append(frozenset(sample))
    assert len(set(considered)) == 3  # drawn anew in each step


def test_a_sample_of_all_is_all():
    recipe = RECIPES["two roles"]
    table = torch.randn(40, 4, 11, generator=torch.Generator().manual_seed(1))
    exact = select(table, recipe, 40)
    for limit in (140, 10**6):
        assert torch.equal(select(table, recipe, 40, limit=limit).slots, exact.slots)


def test_every_combination_is_as_likely_in_a_sample():
    recipe = make_recipe(["global1", "global2", "global2"], 4, 2)
    layout = layout_of(7, recipe, False)
    counts = dict.fromkeys(every_combination(recipe), 0)
    for step in range(2000):
        listed = listed_combinations(layout, Hardest(), 3, Moment(step), torch.device("cpu"))
        for pair, local in zip(listed.pair.tolist(), listed.local.tolist(), strict=True):
            counts[(*layout.pairs[pair], *(layout.local_slots[place] for place in local))] += 1
    # 3 of 12 without replacement: counts vary less than independent draws by the factor 1 - 2/11
    assert len(counts) == 12
    statistic = sum((count - 500) ** 2 for count in counts.values()) / 500 / (1 - 2 / 11)
    assert stats.chi2.sf(statistic, 11) > 1e-4


def test_pairs_are_sampled_where_there_is_nothing_else():
    recipe = make_recipe(["view"] * 6, 0)
    table = torch.randn(20, 6, 6, generator=torch.Generator().manual_seed(1))
    selection = select(table, recipe, 20, limit=4)
    considered = set(map(tuple, selection.losses[0].isfinite().triu(1).nonzero().tolist()))
    assert len(considered) == 4 and {tuple(pair) for pair in selection.pair.tolist()} <= considered


@pytest.mark.parametrize(("policy", "share"), [("quantile", 0.0), ("quantile", 0.3), ("quantile", 1.0)])
def test_a_quantile_of_all_combinations(policy, share):
    recipe, images = RECIPES["two roles"], 30
    table = torch.randn(images, 4, 11, generator=torch.Generator().manual_seed(1))
    selection = select(table, recipe, images, policy=policy, quantile=share)
    combinations = every_combination(recipe)
    for image in range(images):
        ranked = sorted(combinations, key=lambda combination: sum_of_terms(table[image], combination, recipe))
        assert tuple(selection.slots[image].tolist()) == ranked[math.floor(share * 139 + 0.5)]


def test_too_many_combinations_to_rank_are_refused():
    recipe = make_recipe(locals_=16, chosen=8)
    table = torch.zeros(1, 4, 20)
    for policy in ("quantile", "softmax"):
        with pytest.raises(SelectionError, match="there are 51480; set limit="):
            select(table, recipe, 1, policy=policy)
        assert select(table, recipe, 1, policy=policy, limit=64).slots.shape == (1, 10)


# ---- what may be chosen ----


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (make_recipe(["a", "b", "c"], 0), r"got \{'a': 0, 'b': 0, 'c': 0\} of the roles \['a', 'b', 'c'\]"),
        (make_recipe(["view"], 3, 1), "expected at least 2 emitted views.* under Terms, whose loss is of two, got 1"),
        (make_recipe(["a", "b"], 0).with_roles(emitted=0), r"of each role at least one.* got \{'a': 0, 'b': 0\}"),
        (make_recipe(["view"] * 3, 0).with_roles(emitted=3), "expected 2 emitted global views under Terms.* got 3"),
    ],
)
def test_roles_without_a_pair_are_refused(recipe, message):
    for described in (make_rows(recipe, 1), recipe):
        with pytest.raises(SelectionError, match=message):
            hvs.HardViewSelector(Terms(torch.zeros(1, 4, 4))).select(make_pixels(recipe, 1), described)


def test_rows_that_do_not_know_what_is_emitted_emit_every_local_view():
    recipe = RECIPES["two roles"]
    rows = replace(make_rows(recipe, 1), emitted={})
    selection = hvs.HardViewSelector(Terms(torch.zeros(1, 4, 11))).select(make_pixels(recipe, 1), rows)
    assert selection.slots.tolist() == [[0, 2, 4, 5, 6, 7, 8, 9, 10]]
    rows = replace(rows, emitted={"local": 8})
    with pytest.raises(SelectionError, match="at least 8 local candidates, as many as are emitted, got 7"):
        hvs.HardViewSelector(Terms(torch.zeros(1, 4, 11))).select(make_pixels(recipe, 1), rows)
