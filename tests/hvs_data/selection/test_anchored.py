"""The hardest partner of the view that shows most, against a search written out slot by slot."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hvs_data as hvs
from given_losses import Numbered, numbered_views
from hvs_data import SelectionError, policies, rules
from hvs_data.policies import Anchored
from multi_crop import Terms, every_combination, make_pixels, make_recipe, make_rows, sum_of_terms


def anchor_by_hand(params, image):
    areas = [
        (-height * width, slot) for slot, (_, _, height, width) in enumerate(params.box[image].tolist()) if params.role[slot] != "local"
    ]
    return min(areas)[1]


def partners_by_hand(anchor, roles):
    """In order of the slots."""
    two = len({role for role in roles if role != "local"}) == 2
    return [slot for slot, role in enumerate(roles) if role != "local" and slot != anchor and (not two or role != roles[anchor])]


LAYOUTS = [(("view",) * 6, False), (("view",) * 5, True), (("global1",) * 3 + ("global2",) * 3, False)]


def make_losses(images, views, ordered, seed, missing=0.0):
    draw = torch.Generator().manual_seed(seed)
    losses = torch.randn(images, views, views, generator=draw)
    losses = losses.masked_fill(torch.rand(images, views, views, generator=draw) < missing, math.nan)
    return losses if ordered else losses + losses.transpose(1, 2)


@settings(deadline=None, max_examples=60)
@given(
    layout=st.sampled_from(LAYOUTS),
    inner=st.sampled_from(["hardest", "easiest", "smallest_iou", "random", "quantile"]),
    missing=st.floats(0, 1),
    forbidden=st.sampled_from([None, 0.2, 0.7, 1.0]),
    equal=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_the_partner_is_that_of_brute_force(layout, inner, missing, forbidden, equal, seed):
    roles, ordered = layout
    images, views = 5, len(roles)
    params = make_rows(make_recipe(roles, 0), images, seed=seed)
    if equal:  # of boxes of one area the first is the anchor
        params.box[:, 1:4, 2:] = 30
    losses = make_losses(images, views, ordered, seed, missing)
    table = torch.rand(images, views, views, generator=torch.Generator().manual_seed(seed)) >= (forbidden or 0)
    table = table & table.transpose(1, 2)
    kinds = {"hardest": policies.Hardest(), "easiest": policies.Easiest(), "random": policies.Random()}
    kinds |= {"smallest_iou": policies.SmallestIoU(), "quantile": policies.Quantile(0.5)}
    allowed = None if forbidden is None else lambda rows: table
    selector = hvs.HardViewSelector(Numbered(losses, ordered), policy=Anchored(kinds[inner]), allowed=allowed)
    handed = selector(numbered_views(views, images), params)
    selection = selector.last
    iou, without = hvs.iou(params), 0
    for image in range(images):
        anchor = anchor_by_hand(params, image)
        possible = [slot for slot in partners_by_hand(anchor, roles) if forbidden is None or table[image, anchor, slot]]
        without += not possible
        possible = possible or partners_by_hand(anchor, roles)[:1]
        towards = {slot: float(losses[image, slot, anchor]) for slot in possible}  # the partner is the student's view
        finite = sorted((slot for slot in possible if math.isfinite(towards[slot])), key=towards.get)
        if inner == "random":
            expected = possible[0]
        elif inner == "smallest_iou":
            expected = min(possible, key=lambda slot: float(iou[image, anchor, slot]))
        elif not finite:
            expected = possible[0]
        else:
            expected = finite[{"hardest": -1, "easiest": 0, "quantile": math.floor(0.5 * (len(finite) - 1) + 0.5)}[inner]]
        pair = [expected, anchor] if ordered else [anchor, expected]
        assert selection.pair[image].tolist() == selection.slots[image].tolist() == pair
        assert [float(view[image, 0, 0, 0]) for view in handed] == pair
        if selection.scored and finite:
            assert float(selection.loss[image]) == towards[expected]
        told = torch.nonzero(~selection.losses[image].isnan()).tolist()
        assert all(anchor in pair for pair in told) and len(told) == (len(finite) * (1 if ordered else 2) if selection.scored else 0)
    assert selector.none_allowed == without == selection.none_allowed


KINDS = [
    {},
    {"policy": Anchored(policies.Easiest())},
    {"policy": Anchored(policies.SmallestIoU())},
    {"policy": Anchored(policies.TemperedRank(3.0, leave_out=1))},
    {"policy": policies.Mixed(0.5, Anchored())},
    {"policy": policies.Mixed(0.5, Anchored(), by="step")},
    {"policy": policies.Feasible(0.3, policy=Anchored())},
    {"policy": Anchored(policies.Feasible(0.3))},
    {"every": 2},
    {"warmup": 2},
    {"prefilter": 3},
    {"prefilter": 2},
    {"prefilter": 3, "allowed": rules.MinIoU(0.3)},
    {"budget": "cheap"},
    {"limit": 2},
    {"allowed": rules.MinIoU(0.4), "every": 2},
]


@pytest.mark.parametrize(("roles", "ordered"), LAYOUTS, ids=str)
@pytest.mark.parametrize("options", KINDS, ids=str)
def test_every_kind_of_step_hands_out_the_anchor_and_a_partner(options, roles, ordered):
    """From all views as from those that are needed, of which a rule's are the partners wherever it leaves one."""
    images, views = 8, len(roles)
    losses = make_losses(images, views, ordered, 1)
    selectors = [hvs.HardViewSelector(Numbered(losses, ordered), extra_views=1, **{"policy": "anchored", **options}) for _ in range(2)]
    rule = options.get("allowed") or selectors[0].policy.rule
    for step in range(4):
        params = make_rows(make_recipe(roles, 0), images, seed=step)
        handed = selectors[0](numbered_views(views, images), params)
        needed = selectors[1].narrowing(step, params).slots(images, params)
        shown = numbered_views(views, images)
        if needed is not None:
            shown = [slot_B.float()[:, None, None, None].expand(-1, 3, 4, 4) for slot_B in needed.unbind(1)]
        again = selectors[1](shown, params, slots=needed)
        assert all(torch.equal(*both) for both in zip(handed, again, strict=True))
        allowed = torch.ones(images, views, views, dtype=torch.bool) if rule is None else rule(params)
        for image, slots in enumerate(selectors[0].last.slots.tolist()):
            anchor, partner = slots[:2][::-1] if ordered else slots[:2]
            assert anchor == anchor_by_hand(params, image)
            partners = partners_by_hand(anchor, roles)
            assert partner in ([slot for slot in partners if allowed[image, anchor, slot]] or partners)
            assert [float(view[image, 0, 0, 0]) for view in handed] == slots and slots[2] not in (anchor, partner)


def test_where_no_partner_is_feasible_it_is_the_one_that_overlaps_most():
    params = make_rows(make_recipe(("view",) * 5, 0), 20)
    selector = hvs.HardViewSelector(Numbered(torch.zeros(20, 5, 5)), policy=Anchored(policies.Feasible(1.0)))
    selection = selector.select(numbered_views(5, 20), params)
    for image, (anchor, partner) in enumerate(selection.pair.tolist()):
        assert anchor == anchor_by_hand(params, image)
        assert partner == max(partners_by_hand(anchor, ("view",) * 5), key=lambda slot: float(hvs.iou(params)[image, anchor, slot]))
    assert selection.none_allowed == 20


def test_beside_local_views_the_anchor_is_a_global_one():
    recipe, images = make_recipe(locals_=4, chosen=2), 12
    roles = [role.name for role in recipe.slot_roles]
    params, pixels = make_rows(recipe, images), make_pixels(recipe, images)
    params.box[:, 5, :] = torch.tensor([0, 0, 40, 50], dtype=torch.int32)  # a local view that shows all
    terms = torch.randn(images, 4, 8, generator=torch.Generator().manual_seed(0))
    selector = hvs.HardViewSelector(Terms(terms), policy="anchored")
    handed = selector(pixels, params)
    for image, slots in enumerate(selector.last.slots.tolist()):
        anchor = anchor_by_hand(params, image)
        assert slots[0] == anchor and roles[anchor] != "local"
        of_anchor = [combination for combination in every_combination(recipe) if anchor in combination[:2]]
        best = max(of_anchor, key=lambda combination: sum_of_terms(terms[image], combination, recipe))
        assert sorted(slots[:2]) == sorted(best[:2]) and tuple(slots[2:]) == best[2:]
        assert float(selector.last.loss[image]) == pytest.approx(sum_of_terms(terms[image], best, recipe), abs=1e-5)  # float32 terms
        assert all(torch.equal(view[image], pixels[slot][image]) for view, slot in zip(handed, slots, strict=True))


class Taught(Terms):
    """The teacher's outputs are the pixels."""

    def encode(self, pixels):
        return pixels.flatten(1), pixels.flatten(1)


@pytest.mark.parametrize("prefilter", [None, 3])
def test_what_the_teacher_gave_comes_in_the_order_of_the_pair(prefilter):
    recipe, images = make_recipe(("view",) * 4, 0), 6
    params, pixels = make_rows(recipe, images), make_pixels(recipe, images)
    shown = prefilter or 4
    selector = hvs.HardViewSelector(Taught(torch.rand(images, shown, shown)), policy="anchored", keep_teacher=True, prefilter=prefilter)
    views = selector(pixels, params)
    assert (selector.last.pair[:, 0] > selector.last.pair[:, 1]).any()
    assert torch.equal(selector.last.teacher_outputs, torch.cat([view.flatten(1) for view in views]))


def test_a_resumed_selector_chooses_the_same():
    losses = make_losses(4, 6, False, 3)
    rows = [make_rows(make_recipe(("view",) * 6, 0), 4, seed=step) for step in range(8)]
    make = lambda: hvs.HardViewSelector(Numbered(losses), policy=Anchored(policies.Softmax(0.7)), probability=0.6, seed=5)  # noqa: E731
    whole, first, second = make(), make(), make()
    expected = [whole.select(numbered_views(6, 4), params).slots for params in rows]
    for params in rows[:5]:
        first.select(numbered_views(6, 4), params)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for params, slots in zip(rows[5:], expected[5:], strict=True):
        assert torch.equal(second.select(numbered_views(6, 4), params).slots, slots)


@pytest.mark.parametrize("source", [None, make_recipe(["view"] * 3, 0)], ids=["bare", "recipe"])
@pytest.mark.parametrize("options", [{}, {"warmup": 5}], ids=str)
def test_candidates_without_rows_are_refused(source, options):
    selector = hvs.HardViewSelector(Numbered(torch.zeros(2, 3, 3)), policy="anchored", **options)
    with pytest.raises(SelectionError, match="policy 'anchored' reads the candidates' boxes, got candidates without rows; pass params"):
        selector(numbered_views(3, 2), source)
    assert selector.step == 0
    selector(numbered_views(3, 2), make_rows(make_recipe(["view"] * 3, 0), 2))


def test_two_roles_of_ordered_pairs_are_refused():
    recipe = make_recipe(("global1", "global1", "global2"), 0)
    selector = hvs.HardViewSelector(Numbered(torch.zeros(2, 3, 3), ordered=True), policy="anchored")
    with pytest.raises(SelectionError, match="policy 'anchored' expected candidates of one role under Numbered.*'global1', 'global2'"):
        selector(numbered_views(3, 2), make_rows(recipe, 2))
    with pytest.raises(SelectionError, match="candidates of one role"):
        selector.check(recipe)


@pytest.mark.parametrize("policy", ["hardest", Anchored(), policies.Mixed(0.5, Anchored()), None])
def test_what_is_no_policy_for_a_partner_is_refused(policy):
    with pytest.raises(SelectionError, match=r"policy must be a policy without an anchor of its own, such as policies.Hardest\(\), got"):
        Anchored(policy)
