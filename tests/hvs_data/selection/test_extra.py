"""Extra views beside the pair, against a search written out slot by slot."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hvs_data as hvs
from given_losses import Numbered, numbered_views
from hvs_data import SelectionError, rules
from hvs_data.objectives import AdditiveObjective
from multi_crop import Terms, every_combination, make_pixels, make_recipe, make_rows, sum_of_terms

ONE, TWO = ("view",), ("global1", "global2")


def extra_by_hand(pair, roles, extra):
    """The first slots that are not in the pair; of two roles in turn."""
    names = list(dict.fromkeys(role for role in roles if role != "local"))
    free = {name: [slot for slot, role in enumerate(roles) if role == name and slot not in pair] for name in names}
    return [free[names[number % len(names)]].pop(0) for number in range(extra)]


KINDS = [
    {},
    {"policy": "easiest"},
    {"policy": "random"},
    {"policy": "smallest_iou"},
    {"policy": "quantile", "quantile": 0.5},
    {"policy": "tempered", "total_steps": 4},
    {"every": 2},
    {"warmup": 3},
    {"prefilter": 3},
    {"prefilter": 2},
    {"prefilter": 4, "policy": "easiest", "every": 2},
    {"limit": 2},
    {"bn": "per_view", "chunk": 2},
    {"budget": "cheap"},
    {"allowed": rules.MinIoU(0.3)},
    {"allowed": rules.MinIoU(0.3), "prefilter": 3},
    {"allowed": rules.MinIoU(0.3), "every": 2},
]
LAYOUTS = [
    (("view",) * 6, False),
    (("view",) * 5, True),
    (("global1",) * 3 + ("global2",) * 4, False),
    (("global2",) * 3 + ("global1",) * 3, False),
]


@pytest.mark.parametrize(("roles", "ordered"), LAYOUTS, ids=str)
@pytest.mark.parametrize("options", KINDS, ids=str)
def test_extra_views_are_the_first_that_are_not_in_the_pair_whatever_the_step(options, roles, ordered):
    """And the pair, what is scored and what is told are as without them; also if just the needed views are given, by slots."""
    images, views, extra = 6, len(roles), 3
    params = [make_rows(make_recipe(roles, 0), images, seed=step) for step in range(3)]
    losses = torch.randn(images, views, views, generator=torch.Generator().manual_seed(1))
    pixels = numbered_views(views, images)
    plain, mine, by_slots = (hvs.HardViewSelector(Numbered(losses, ordered), extra_views=count, **options) for count in (0, extra, extra))
    for step, rows in enumerate(params):
        plain(pixels, rows)
        handed = mine(pixels, rows)
        selection = mine.last
        assert torch.equal(selection.pair, plain.last.pair) and torch.equal(selection.slots[:, :2], selection.pair)
        assert torch.equal(selection.losses.nan_to_num(9), plain.last.losses.nan_to_num(9))
        assert (selection.scored, selection.extra_views, plain.last.extra_views) == (plain.last.scored, extra, 0)
        for image, slots in enumerate(selection.slots.tolist()):
            assert slots[2:] == extra_by_hand(slots[:2], roles, extra)
            assert [float(view[image, 0, 0, 0]) for view in handed] == slots
        needed = by_slots.narrowing(step, rows).slots(images, rows)
        if needed is not None:
            given_views = [slot_B.float()[:, None, None, None].expand(-1, 3, 4, 4) for slot_B in needed.unbind(1)]
            again = by_slots(given_views, rows, slots=needed)
            assert torch.equal(by_slots.last.losses.nan_to_num(9), selection.losses.nan_to_num(9))
            assert all(torch.equal(*both) for both in zip(again, handed, strict=True))
        else:
            by_slots(pixels, rows)
        assert torch.equal(by_slots.last.slots, selection.slots)
    assert plain.objective.shown == mine.objective.shown == by_slots.objective.shown


@settings(deadline=None, max_examples=40)
@given(
    counts=st.one_of(st.tuples(st.integers(2, 7)), st.tuples(st.integers(1, 4), st.integers(1, 4))),
    locals_=st.integers(0, 2),
    prefilter=st.integers(2, 5),
    extra=st.integers(0, 4),
    scored=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_what_a_narrowed_step_needs_holds_the_extra_views_and_little_else(counts, locals_, prefilter, extra, scored, seed):
    names = ONE if len(counts) == 1 else TWO
    roles = [name for name, many in zip(names, counts, strict=True) for _ in range(many)]
    recipe = make_recipe(roles=roles, locals_=locals_, chosen=locals_ // 2)
    params = make_rows(recipe, 4, seed=seed)
    with_them, without = (
        hvs.HardViewSelector(MeanTerms(), prefilter=prefilter, extra_views=count, warmup=0 if scored else 1) for count in (extra, 0)
    )
    if any(many < 2 // len(counts) + len(range(number, extra, len(counts))) for number, many in enumerate(counts)):
        with pytest.raises(SelectionError, match=f"extra_views={extra} expected at least .* draw more with the recipe's candidates="):
            with_them.narrowing(0, params)
        return
    narrowing, plain = with_them.narrowing(0, params), without.narrowing(0, params)
    needed, kept = narrowing.slots(4, params), plain.slots(4, params)
    if needed is None:
        assert kept is None
        return
    assert needed.shape[1] == len(narrowing.columns) <= kept.shape[1] + extra
    with_them.select(
        [torch.randn(4, 3, 8 - 4 * (role.name == "local"), 8 - 4 * (role.name == "local")) for role in recipe.slot_roles], params
    )
    for image in range(4):
        shown, slots = needed[image].tolist(), with_them.last.slots[image].tolist()
        assert len(set(shown)) == len(shown) and set(kept[image].tolist()) <= set(shown) and set(slots) <= set(shown)
        assert scored or shown == slots
        for column, slot in zip(narrowing.columns, shown, strict=True):
            assert params.role[column] == params.role[slot] and params.size[column] == params.size[slot]
    if scored:
        assert [needed[:, place].tolist() for place in narrowing.scored_of(needed.shape[1])] == kept.T.tolist()


class MeanTerms(AdditiveObjective):
    """Terms of as many views as there are, the distance of their means; the number of views that a mean over terms would be over."""

    def __init__(self):
        self.views = set()

    def encode(self, pixels):
        return pixels.mean((1, 2, 3))[:, None], pixels.mean((1, 2, 3))[:, None]

    def encode_local(self, pixels):
        return pixels.mean((1, 2, 3))[:, None]

    def term_table(self, teacher, student, local, views):
        self.views.add(views)
        students = student if local is None else torch.cat([student, local], dim=1)
        return (teacher - students.transpose(1, 2)).abs()


@pytest.mark.parametrize("policy", ["hardest", "random", "smallest_iou"])
def test_extra_views_stand_between_the_pair_and_the_local_views(policy):
    recipe, images = make_recipe(("global1", "global1", "global2", "global2", "global2"), locals_=4, chosen=2), 5
    roles = [role.name for role in recipe.slot_roles]
    params, pixels = make_rows(recipe, images), make_pixels(recipe, images)
    terms = torch.randn(images, 5, 9, generator=torch.Generator().manual_seed(2))
    selector = hvs.HardViewSelector(Terms(terms), policy=policy, extra_views=3)
    with pytest.raises(
        SelectionError, match="extra_views=3 expected at least 3 of the role 'global1' and 2 of the role 'global2'.* got 2 "
    ):
        selector(pixels, params)
    selector = hvs.HardViewSelector(Terms(terms), policy=policy, extra_views=2)
    handed = selector(pixels, params)
    assert [view.shape[-1] for view in handed] == [8] * 4 + [4] * 2
    for image, slots in enumerate(selector.last.slots.tolist()):
        pair, extra, local = slots[:2], slots[2:4], slots[4:]
        assert extra == extra_by_hand(pair, roles, 2)
        assert all(torch.equal(view[image], pixels[slot][image]) for view, slot in zip(handed, slots, strict=True))
        if policy == "hardest":
            best = max(sum_of_terms(terms[image], combination, recipe) for combination in every_combination(recipe))
            assert sum_of_terms(terms[image], (*pair, *local), recipe) == pytest.approx(best, abs=1e-5)  # float32 terms, two orders
            assert float(selector.last.loss[image]) == pytest.approx(best, abs=1e-5)
        if policy == "random":
            assert (*pair, *local) == every_combination(recipe)[0]


def test_the_loss_that_chooses_is_that_of_the_pair_and_the_local_views():
    recipe = make_recipe(("view",) * 5, locals_=3, chosen=2)
    objective = MeanTerms()
    selector = hvs.HardViewSelector(objective, extra_views=3)
    selector.select(make_pixels(recipe, 2), make_rows(recipe, 2))
    assert objective.views == {4} and selector.last.slots.shape == (2, 7)


def test_candidates_without_rows_have_extra_views_too():
    losses = torch.zeros(3, 4, 4)
    losses[:, 0, 2] = 1
    for source in (None, make_recipe(("view",) * 4, 0)):
        handed = hvs.HardViewSelector(Numbered(losses), extra_views=1)(numbered_views(4, 3), source)
        assert [float(view[0, 0, 0, 0]) for view in handed] == [0, 2, 1]


def test_a_resumed_selector_hands_out_the_same():
    losses = torch.randn(4, 6, 6, generator=torch.Generator().manual_seed(3))
    options = {"policy": "softmax", "probability": 0.5, "extra_views": 2, "seed": 5}
    rows = [make_rows(make_recipe(("view",) * 6, 0), 4, seed=step) for step in range(8)]
    whole, first, second = (hvs.HardViewSelector(Numbered(losses), **options) for _ in range(3))
    expected = [whole.select(numbered_views(6, 4), params).slots for params in rows]
    for params in rows[:5]:
        first.select(numbered_views(6, 4), params)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for params, slots in zip(rows[5:], expected[5:], strict=True):
        assert torch.equal(second.select(numbered_views(6, 4), params).slots, slots)


@pytest.mark.parametrize("extra", [-1, 1.5, True, None, "2"])
def test_what_is_no_number_of_views_is_refused(extra):
    with pytest.raises(SelectionError, match="extra_views must be a whole number of at least 0, got"):
        hvs.HardViewSelector(Numbered(torch.zeros(1, 3, 3)), extra_views=extra)


def test_too_few_candidates_are_refused():
    selector = hvs.HardViewSelector(Numbered(torch.zeros(1, 3, 3)), extra_views=2)
    with pytest.raises(
        SelectionError, match="extra_views=2 expected at least 4 of the role 'view', the chosen views and those beside them, got 3 of"
    ):
        selector(numbered_views(3, 1))
    assert selector.step == 0
    with pytest.raises(AttributeError, match="extra_views"):
        selector.extra_views = 1
