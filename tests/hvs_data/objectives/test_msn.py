"""MSN against lightly's loss and the published formula in float64, over all combinations of a target, an anchor and local views."""

from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from lightly.loss import MSNLoss
from torch import nn

import hvs_data as hvs
from distillers import chosen, msn_loss
from hvs_data import SelectionError
from hvs_data.objectives import MSN
from hvs_data.policies import Anchored
from hvs_data.recipes import Masking
from multi_crop import make_pixels, make_recipe, make_rows

D, K, IMAGES = 8, 30, 40
RECIPE = make_recipe(("view",) * 4, locals_=5, chosen=2)
# Float32 against the same formula in float64, of cosines below 1: a logit over .1 (anchors) or .025 (targets) errs by less than
# (D + 4) units of 2^-24 over the temperature, a code by the sum of both signs of that and by 2 K units in each of 3 turns of sums, and a
# cross-entropy, whose logarithms are at most 2 / .1 + log K = 24, by 24 times a code's error and by that of its logits.
U = 2.0**-24
TOLERANCE = 24 * (2 * (D + 4) / 0.025 + 12 * K) * U + 2 * (D + 4) / 0.1 * U


def network(seed, dtype=torch.float32):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, D)).to(dtype)


def objective_of(**options):
    prototypes = torch.randn(K, D, generator=torch.Generator().manual_seed(3))
    return MSN(student=network(1), teacher=network(2), prototypes=prototypes, **options)


def embeddings(network, pixels):
    with torch.no_grad():
        return [network(view).double() for view in pixels]


@pytest.mark.parametrize("settings", [{}, {"iterations": 0}, {"iterations": 1, "temperature": 0.3, "sharpening": 0.5}], ids=str)
@pytest.mark.parametrize("roles", [("view",) * 4, ("global1", "global1", "global2", "global2")], ids=["one role", "two roles"])
def test_the_choice_is_the_hardest_of_all_combinations(roles, settings):
    recipe = make_recipe(roles, locals_=5, chosen=2)
    objective, pixels = objective_of(**settings), make_pixels(recipe, IMAGES)
    selection = hvs.HardViewSelector(objective).select(pixels, make_rows(recipe, IMAGES))
    targets, anchors = (embeddings(part[0], pixels[:count]) for part, count in ((objective.teacher, 4), (objective.student, 9)))
    pairs = permutations(range(4), 2) if roles[0] == "view" else [(0, 2), (0, 3), (1, 2), (1, 3)]
    every = [(*pair, *locals_) for pair in pairs for locals_ in combinations(range(4, 9), 2)]
    losses = torch.stack(
        [msn_loss(targets[first], [anchors[slot] for slot in rest], objective.prototypes, **settings) for first, *rest in every], dim=1
    )
    best, second = losses.topk(2, dim=1).values.unbind(1)
    taken = torch.tensor([every.index(tuple(slots)) for slots in selection.slots.tolist()])
    assert (best - losses[torch.arange(IMAGES), taken]).max() <= 2 * TOLERANCE
    clear = best - second > 2 * TOLERANCE
    assert torch.equal(taken[clear], losses.argmax(1)[clear]) and clear.sum() > IMAGES / 2
    np.testing.assert_allclose(selection.loss, best, rtol=0, atol=TOLERANCE)
    # one entry is a target's loss, not the sum of both directions
    assert int(selection.non_finite) == 0 and selection.losses.isfinite().sum() == IMAGES * len(set(slots[:2] for slots in every))


def test_the_mean_over_a_batch_is_lightlys_loss_without_its_entropy():
    objective = objective_of()
    recipe = make_recipe(("view",) * 2, locals_=3, chosen=3)
    pixels = make_pixels(recipe, IMAGES)
    # no choice of local views, and one of two orders, which the rule leaves
    only = lambda rows: torch.ones(rows.batch_size, 5, 5, dtype=torch.bool).triu(1)  # noqa: E731
    selector = hvs.HardViewSelector(objective, allowed=only)
    views = selector(pixels, make_rows(recipe, IMAGES))
    criterion = MSNLoss(regularization_weight=0.0)
    with torch.no_grad():
        anchors = torch.cat([objective.student[0](view) for view in views[1:]])
        expected = criterion(anchors, objective.teacher[0](views[0]), objective.prototypes)
    assert float(selector.last.loss.double().mean()) == pytest.approx(float(expected), abs=2 * TOLERANCE)


def test_settings_are_read_at_each_scoring():
    state = {"temperature": 0.1, "sharpening": 0.25, "prototypes": torch.randn(K, D)}
    objective = MSN(
        student=network(1),
        teacher=network(2),
        prototypes=lambda: state["prototypes"],
        temperature=lambda: state["temperature"],
        sharpening=lambda: torch.tensor(state["sharpening"]),
    )
    outputs = torch.randn(5, 3, D), torch.randn(5, 3, D)
    before = objective.pair_losses(outputs)
    for change in ({"temperature": 0.2}, {"sharpening": 0.5}, {"prototypes": torch.randn(K, D)}):
        state.update(change)
        after = objective.pair_losses(outputs)
        assert (after - before).abs().max() > 1e-3
        same = MSN(student=network(1), teacher=network(2), **state)
        assert torch.equal(same.pair_losses(outputs), after)
        before = after
    layer = nn.Linear(D, K, bias=False)
    objective.prototypes = layer
    assert torch.equal(
        objective.pair_losses(outputs),
        MSN(student=network(1), teacher=network(2), **state | {"prototypes": layer.weight}).pair_losses(outputs),
    )


class Hiding(nn.Module):
    """A student that looks at the visible patches alone, as MSN's drops the others."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, D, 2, stride=2)

    def forward(self, pixels, mask=None):
        tokens = self.patches(pixels).flatten(2)
        if mask is None:
            return tokens.mean(2)
        visible = (~mask.flatten(1)).to(tokens.dtype)[:, None]
        return (tokens * visible).sum(2) / visible.sum(2)


def test_masks_travel_with_the_anchors():
    recipe = make_recipe(("view",) * 4, locals_=3, chosen=1, masking=Masking(patch_size=2, ratio=0.5, variance=0.0, shape="random"))
    pixels, rows = make_pixels(recipe, IMAGES), make_rows(recipe, IMAGES)
    student, teacher, prototypes = Hiding(), Hiding(), torch.randn(K, D)
    selection = hvs.HardViewSelector(MSN(student=student, teacher=teacher, prototypes=prototypes, masked=True)).select(pixels, rows)
    with torch.no_grad():
        targets = [teacher(view) for view in pixels[:4]]
        anchors = [student(view, rows.mask[:, slot]) for slot, view in enumerate(pixels[:4])] + [student(view) for view in pixels[4:]]
    every = [(i, j, local) for i, j in permutations(range(4), 2) for local in (4, 5, 6)]
    losses = torch.stack([msn_loss(targets[i], [anchors[j], anchors[local]], prototypes) for i, j, local in every], 1)
    np.testing.assert_allclose(selection.loss, losses.amax(1), rtol=0, atol=TOLERANCE)
    whole = hvs.HardViewSelector(MSN(student=student, teacher=teacher, prototypes=prototypes)).select(pixels, rows)
    assert not torch.equal(whole.slots, selection.slots)


def test_half_precision_is_bounded():
    """Of embeddings rounded to bfloat16, what the formula says of the rounded ones."""
    outputs = [torch.randn(20, 4, D).bfloat16() for _ in range(2)]
    objective = objective_of()
    table = objective.pair_losses(tuple(outputs))
    assert table.dtype == torch.float32
    for i, j in permutations(range(4), 2):
        expected = msn_loss(outputs[0][:, i], [outputs[1][:, j]], objective.prototypes)
        np.testing.assert_allclose(table[:, i, j], expected, rtol=0, atol=TOLERANCE)


class Named(nn.Module):
    def __init__(self, prototypes=True, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        if prototypes:
            self.prototypes = nn.Parameter(torch.randn(K, D))


def test_a_models_parts_are_found():
    parts = {name: nn.Identity() for name in ("anchor_backbone", "anchor_projection_head", "backbone", "projection_head")}
    found = MSN(Named(**parts))
    assert [*found.student, *found.teacher] == list(parts.values())
    ends_in_heads = {"encoder": network(1), "target_encoder": network(2)}
    found = MSN(Named(**ends_in_heads))
    assert [*found.student, *found.teacher] == list(ends_in_heads.values()) and found.prototypes.shape == (K, D)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MSN(), "needs either a model, or student= and teacher="),
        (lambda: MSN(Named(), student=network(1), teacher=network(2)), "pass one of the two"),
        (lambda: MSN(Named(backbone=network(1))), "expected a MSN model with the attributes .*; pass student= and teacher= instead"),
        (lambda: MSN(student=network(1), teacher=network(2)), "expected MSN's prototypes= as a tensor"),
        (lambda: MSN(Named(False, encoder=network(1), target_encoder=network(2))), "by default they are the model's attribute prototypes"),
        (lambda: objective_of(iterations=-1), "iterations must be a whole number of at least 0, got -1"),
        (lambda: objective_of(temperature=0), "temperature must be a number above 0"),
    ],
)
def test_what_means_nothing_is_refused(make, message):
    with pytest.raises(SelectionError, match=message):
        make()


def test_prototypes_of_another_length_are_refused():
    objective = MSN(student=network(1), teacher=network(2), prototypes=torch.randn(K, D + 1))
    with pytest.raises(SelectionError, match=rf"prototypes as \[K, {D}\], as long as the embeddings, got torch.float32 \[{K}, {D + 1}\]"):
        hvs.HardViewSelector(objective).select(make_pixels(RECIPE, 3), make_rows(RECIPE, 3))


def test_more_global_views_and_an_anchor_of_rows_are_refused():
    three = hvs.recipes.msn(candidates=4, local_candidates=0, size=8)
    three = hvs.recipes.Recipe("three", (hvs.recipes.Role(candidates=4, emitted=3, size=8),), mean=three.mean, std=three.std)
    with pytest.raises(SelectionError, match="expected 2 emitted global views under MSN"):
        hvs.HardViewSelector(objective_of()).check(three)
    with pytest.raises(SelectionError, match="takes its target first; give target and student roles of their own"):
        hvs.HardViewSelector(objective_of(), policy=Anchored()).check(RECIPE)


def test_views_of_its_recipe_come_in_the_trainers_order():
    """The preset's views, from rows to the chosen combination: one target, one anchor and local anchors in the trainer's order."""
    recipe = hvs.recipes.msn(candidates=4, local_candidates=6, local_views=3, size=8, local_size=4)
    pixels = make_pixels(recipe, 7)
    selector = hvs.HardViewSelector(objective_of())
    views = selector(pixels, make_rows(recipe, 7))
    assert [view.shape[-1] for view in views] == [8, 8, 4, 4, 4]
    assert all(torch.equal(a, b) for a, b in zip(views, chosen(pixels, selector.last.slots), strict=True))
