"""Local views under objectives of pairs: handed out unseen, or chosen with the others, against all combinations written out."""

# Axes: B image, V view slot.

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import hvs_data as hvs
from given_losses import Numbered, numbered_views
from hvs_data import SelectionError, policies, rules
from hvs_data.objectives import SimSiam
from hvs_data.recipes import Recipe, Role
from multi_crop import make_pixels, make_recipe, make_rows

# global candidates and how many are chosen, local ones and how many
SHAPES = {"a pair": ((("view", 4, 2),), 5, 2), "three": ((("view", 5, 3),), 4, 2), "roles": ((("global1", 2, 1), ("global2", 2, 1)), 4, 3)}


def recipe_of(name):
    roles, locals_, chosen = SHAPES[name]
    parts = [Role(role, candidates=candidates, emitted=emitted, size=8) for role, candidates, emitted in roles]
    return Recipe("crops", (*parts, Role("local", candidates=locals_, emitted=chosen, size=4)))


def every_set(recipe):
    slots, parts = 0, [()]
    for role in recipe.roles[:-1]:
        parts = [(*part, *more) for part in parts for more in combinations(range(slots, slots + role.candidates), role.emitted)]
        slots += role.candidates
    return parts, list(combinations(range(slots, recipe.num_views), recipe.roles[-1].emitted))


def loss_of(table_VV, globals_, locals_, both_ways=False, local_first=False):
    """The mean over pairs of global views, of both orders if they have two, and over each global view with each local one."""
    between = [(table_VV[i][j] + table_VV[j][i]) / 2 if both_ways else table_VV[i][j] for i, j in combinations(globals_, 2)]
    beside = [table_VV[local][one] if local_first else table_VV[one][local] for one in globals_ for local in locals_]
    return math.fsum(between + beside) / (len(between) + len(beside)) if all(map(math.isfinite, between + beside)) else math.nan


@pytest.mark.parametrize("policy", ["hardest", "easiest"])
@pytest.mark.parametrize(("name", "ordered"), [("a pair", False), ("three", False), ("three", True), ("roles", False), ("roles", True)])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_the_best_of_all_combinations_with_local_views(name, ordered, policy, data):
    """Views of two roles keep their order; a set of one role is scored in both."""
    recipe, images = recipe_of(name), 2
    views = recipe.num_views
    bad = data.draw(st.sampled_from([[], [math.nan, math.inf]]))
    entries = st.sampled_from([0.0, 0.25, 0.5, 1.0, -1.0, *bad])
    table = torch.tensor(data.draw(st.lists(entries, min_size=images * views**2, max_size=images * views**2))).reshape(images, views, views)
    selector = hvs.HardViewSelector(Numbered(table, ordered), policy=policy, score_locals=True)
    selection = selector.select(sized_views(recipe, images), make_rows(recipe, images))
    sets, of_locals = every_set(recipe)
    sign = -1 if policy == "easiest" else 1
    for image in range(images):
        losses = {
            (*globals_, *locals_): loss_of(table[image].tolist(), globals_, locals_, ordered and name != "roles", ordered)
            for globals_ in sets
            for locals_ in of_locals
        }
        finite = [slots for slots, value in losses.items() if math.isfinite(value)]
        expected = max(finite, key=lambda slots: sign * losses[slots]) if finite else (*sets[0], *of_locals[0])
        got = tuple(selection.slots[image].tolist())
        if finite:  # equal sums in another order may differ in their last bit, far below the quarters between others
            assert losses[got] == pytest.approx(losses[expected], abs=1e-12)
            assert float(selection.loss[image]) == pytest.approx(losses[expected], abs=1e-6)
        else:
            assert got == expected


def sized_views(recipe, images):
    return [torch.full((images, 3, role.size, role.size), float(slot)) for slot, role in enumerate(recipe.slot_roles)]


OPTIONS = [
    {},
    {"policy": "smallest_iou"},
    {"policy": "tempered", "total_steps": 3},
    {"policy": policies.Mixed(0.5)},
    {"allowed": rules.MinIoU(0.3)},
    {"limit": 3},
    {"prefilter": 4},
    {"every": 2, "extra_views": 1},
    {"policy": "anchored"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("views", [2, 3])
def test_unseen_local_views_follow_what_is_chosen_without_them(options, views):
    if views == 3 and options.get("policy") == "anchored":
        pytest.skip("about pairs")
    with_locals = Recipe("crops", (Role(candidates=5, emitted=views, size=8), Role("local", candidates=3, emitted=3, size=4)))
    alone = Recipe("alone", with_locals.roles[:1])
    images = 12
    table = torch.randn(images, 8, 8, generator=torch.Generator().manual_seed(0))
    one, other = (hvs.HardViewSelector(Numbered(table), seed=2, **options) for _ in range(2))
    for seed in range(2):
        rows = make_rows(with_locals, images, seed=seed)
        handed = one(sized_views(with_locals, images), rows)
        plain = other.select(numbered_views(5, images), make_rows(alone, images, seed=seed))
        assert torch.equal(one.last.slots[:, : plain.slots.shape[1]], plain.slots)
        assert torch.equal(one.last.loss.nan_to_num(9), plain.loss.nan_to_num(9)) and one.last.num_losses == plain.num_losses
        assert one.last.slots[:, -3:].tolist() == [[5, 6, 7]] * images
        assert [float(view[0, 0, 0, 0]) for view in handed] == one.last.slots[0].tolist()
        assert [view.shape[-1] for view in handed] == [8] * (len(handed) - 3) + [4] * 3
    assert set(one.objective.shown) == set(other.objective.shown)


def test_more_local_candidates_than_are_handed_out_must_be_scored():
    recipe = recipe_of("a pair")
    selector = hvs.HardViewSelector(Numbered(torch.zeros(1, 9, 9)))
    with pytest.raises(SelectionError, match="as many candidates of the role 'local' as reach the trainer, 2, .*got 5.*score_locals=True"):
        selector.check(recipe)
    hvs.HardViewSelector(Numbered(torch.zeros(1, 9, 9)), score_locals=True).check(recipe)


def test_a_model_scores_local_views_of_their_own_size():
    """SimSiam's published loss of every two views, each from a forward of its size, in float64."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    projector, predictor = nn.Linear(6, 5).double(), nn.Linear(5, 5).double()
    recipe, images = make_recipe(["view"] * 3, 4, 2), 20
    pixels = make_pixels(recipe, images, dtype=torch.float64)
    selector = hvs.HardViewSelector(SimSiam(encoder=encoder, projector=projector, predictor=predictor), score_locals=True, chunk=17)
    selection = selector.select(pixels, make_rows(recipe, images))
    with torch.no_grad():
        z = torch.stack([projector(encoder(view)) for view in pixels], 1)
        p = predictor(z)
    unit = torch.nn.functional.normalize
    table = -unit(p, dim=-1) @ unit(z, dim=-1).transpose(1, 2)
    table = (table + table.transpose(1, 2)) / 2
    for image in range(images):
        losses = {
            (*pair, *rest): loss_of(table[image].tolist(), pair, rest)
            for pair in combinations(range(3), 2)
            for rest in combinations(range(3, 7), 2)
        }
        # float32 cosines of 5 products err by less than 10 units of 6e-8
        assert losses[tuple(selection.slots[image].tolist())] >= max(losses.values()) - 1e-6
        assert float(selection.loss[image]) == pytest.approx(max(losses.values()), abs=1e-6)
    assert selection.num_losses == images * (3 + 3 * 4)
