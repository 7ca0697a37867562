"""Which candidates are needed, against a search written out view by view."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hvs_data as hvs
from hvs_data import SelectionError
from hvs_data.rows.features import FEATURES, pair_scores
from hvs_data.rows.layout import layout_of
from hvs_data.selection.allowed import PairRule
from hvs_data.selection.geometry import Weights
from hvs_data.selection.narrowing import ALL, FIRST, LEAST_OVERLAP, PROMISING, Narrowing
from multi_crop import make_recipe, make_rows

ONE, TWO = ("view",), ("global1", "global2")


def kept_by_hand(score_VV, roles, slots, quota_of, spread, sign):
    """The slots of one image that the docstring of the narrowing describes."""

    def legal(i, j):
        return len(quota_of) == 1 or roles[i] != roles[j]

    def first_then_second(i, j):
        return i < j if len(quota_of) == 1 else (roles[i], roles[j]) == tuple(quota_of)

    pairs = [(i, j) for i in slots for j in slots if i != j and first_then_second(i, j)]
    best = max(pairs, key=lambda pair: sign * score_VV[pair[0]][pair[1]])
    peak = sign * score_VV[best[0]][best[1]]
    kept = list(best)
    while len(kept) < sum(quota_of.values()):
        gains = {}
        for view in slots:
            if view not in kept and sum(roles[other] == roles[view] for other in kept) < quota_of[roles[view]]:
                terms = [math.exp((sign * score_VV[view][other] - peak) / (2 * spread)) for other in kept if legal(view, other)]
                gains[view] = math.fsum(terms)
        kept.append(max(gains, key=lambda view: gains[view]))
    return sorted(kept, key=lambda slot: (list(quota_of).index(roles[slot]), slot)), gains_apart(score_VV, slots)


def gains_apart(score_VV, slots):
    """Whether no two scores are so near each other that float32 may order them otherwise."""
    values = sorted(score_VV[i][j] for i in slots for j in slots if i < j)
    return all(b - a > 1e-4 for a, b in zip(values, values[1:], strict=False))


@settings(deadline=None, max_examples=60)
@given(
    counts=st.one_of(st.tuples(st.integers(2, 7)), st.tuples(st.integers(1, 4), st.integers(1, 4))),
    locals_=st.integers(0, 2),
    count=st.integers(2, 6),
    asks=st.booleans(),
    easiest=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_the_most_promising_views(counts, locals_, count, asks, easiest, seed):
    names = ONE if len(counts) == 1 else TWO
    roles = [name for name, many in zip(names, counts, strict=True) for _ in range(many)]
    params = make_rows(make_recipe(roles=roles, locals_=locals_, chosen=locals_ // 2), 4, seed=seed)
    layout = layout_of(params.num_views, params, False)
    draw = torch.Generator().manual_seed(seed)
    weights = Weights(tuple(torch.randn(len(FEATURES), generator=draw).tolist()), 0.5)
    count = count if asks else 2
    narrowing = Narrowing(layout, PROMISING, asks, count, weights, easiest)
    slots_BK = narrowing.slots(4, params)
    assert slots_BK.dtype == torch.int64 and slots_BK.shape == (4, len(narrowing.columns))
    score_BVV = pair_scores(params.views(layout.global_slots), weights.weight)
    quota_of = expected_quotas(names, counts, count)
    for image in range(4):
        expected, apart = kept_by_hand(
            score_BVV[image].astype(float).tolist(), params.role, list(layout.global_slots), quota_of, 0.5, -1 if easiest else 1
        )
        local = [*layout.local_slots] if asks else [*layout.local_slots[: locals_ // 2]]
        if apart:
            assert slots_BK[image].tolist() == expected + local
        kept = slots_BK[image].tolist()
        assert len(set(kept)) == len(kept)
        for column, slot in zip(narrowing.columns, kept, strict=True):
            assert params.role[column] == params.role[slot] and params.size[column] == params.size[slot]


def expected_quotas(names, counts, count):
    """Half of each role, and what one role lacks of the other; never none of a role."""
    if len(names) == 1:
        return {names[0]: min(count, counts[0])}
    best = {}
    for first in range(1, counts[0] + 1):
        for second in range(1, counts[1] + 1):
            if first + second <= count:
                # as many as may be, as evenly as may be, the odd one to the first role
                best[first, second] = (first + second, -abs(first - second), first)
    first, second = max(best, key=best.get)
    return {names[0]: first, names[1]: second}


def test_of_equal_scores_the_first_views_are_kept():
    params = make_rows(make_recipe(roles=("view",) * 6, locals_=0, chosen=0), 3)
    narrowing = Narrowing(layout_of(6, params, False), PROMISING, True, 4, Weights((0.0,) * len(FEATURES), 0.1))
    assert narrowing.slots(3, params).tolist() == [[0, 1, 2, 3]] * 3


def test_ordered_pairs_keep_the_same_views():
    params = make_rows(make_recipe(roles=("view",) * 6, locals_=0, chosen=0), 8)
    weights = Weights(tuple(float(number) for number in range(len(FEATURES))), 0.1)
    kept = [Narrowing(layout_of(6, params, ordered), PROMISING, True, 3, weights).slots(8, params) for ordered in (False, True)]
    assert torch.equal(*kept)


def test_an_ordered_pair_that_rows_choose_is_allowed_in_its_order():
    params = make_rows(make_recipe(roles=("view",) * 5, locals_=0, chosen=0), 12)
    falling = torch.ones(12, 5, 5, dtype=torch.bool).tril(-1)  # the later slot first
    layout = layout_of(5, params, True)
    weights = Weights((-1.0,) + (0.0,) * (len(FEATURES) - 1), 0.1)
    narrowing = Narrowing(layout, PROMISING, False, 2, weights, allowed=PairRule(lambda rows: falling))
    pair_B2 = narrowing.slots(12, params)
    assert (pair_B2[:, 0] > pair_B2[:, 1]).all()
    score_BVV = torch.from_numpy(pair_scores(params, weights.weight))
    assert torch.equal(score_BVV[torch.arange(12), pair_B2[:, 0], pair_B2[:, 1]], score_BVV.tril(-1).masked_fill(~falling, -9).amax((1, 2)))


def test_the_other_rules():
    recipe = make_recipe(locals_=3, chosen=2)
    params = make_rows(recipe, 5)
    layout = layout_of(7, params, False)
    assert Narrowing(layout, ALL, True).slots(5, None) is None and Narrowing(layout, ALL, True).columns == tuple(range(7))
    first = Narrowing(layout, FIRST, False)
    assert first.slots(5, None).tolist() == [[0, 2, 4, 5]] * 5 and first.columns == (0, 2, 4, 5)
    selector = hvs.HardViewSelector(hvs.objectives.DINO(torch.nn.Flatten(), torch.nn.Flatten(), torch.zeros(1), 0.1), policy="smallest_iou")
    least = Narrowing(layout, LEAST_OVERLAP, False)
    assert torch.equal(least.slots(5, params), selector.select(None, params).slots)
    for narrowing in (least, Narrowing(layout, PROMISING, True, 2, Weights((1.0,) * len(FEATURES), 0.1))):
        with pytest.raises(SelectionError, match="reads the candidates' (rows|boxes), got candidates without rows; pass params"):
            narrowing.slots(5, None)


def test_what_is_equal_needs_the_same_views():
    layout = layout_of(4, make_rows(make_recipe(locals_=0, chosen=0), 1), False)
    narrowing = Narrowing(layout, PROMISING, True, 2, Weights((1.0,) * len(FEATURES), 0.1))
    assert narrowing == replace(narrowing) and hash(narrowing) == hash(replace(narrowing))
    for change in ({"count": 3}, {"easiest": True}, {"asks": False}, {"weights": Weights((2.0,) * len(FEATURES), 0.1)}):
        assert narrowing != replace(narrowing, **change)
