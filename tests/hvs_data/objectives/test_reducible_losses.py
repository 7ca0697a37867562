"""Losses less those of the momentum network, against the formulas of both in float64."""

from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from torch import nn

import hvs_data as hvs
from distillers import DISTILLERS, RECIPE, dino_loss, rounding
from hvs_data import SelectionError
from hvs_data.objectives import BYOL, DINO, IBOT, AdditiveObjective, EarlyFeatures, MoCoV2, MoCoV3, SimCLR, SimSiam, reducible
from multi_crop import every_combination, make_pixels, make_recipe, make_rows
from pair_formulas import METHODS
from products import UNIT
from trainers import TRAINERS, make_candidates, started, traces

NAMES = ["BYOL", "MoCo v2", "MoCo v2, symmetric", "MoCo v3", "MoCo v2 by its positive", "MoCo v3 by its positive"]
PAIRS = pytest.mark.parametrize("method", [METHODS[name] for name in NAMES], ids=NAMES)
K = 24


# ---- pairs ----


def by_hand(method, outputs, i, j, weight):
    """The formula of trained and momentum network's outputs, less that of the momentum network's alone."""
    return method.formula(outputs, i, j) - weight * method.formula((outputs[1], outputs[1]), i, j)


def error(method, outputs, weight):
    """That of both losses, and a unit of each of them and of their difference, none of which is above 32."""
    return method.error(outputs) + weight * method.error((outputs[1], outputs[1])) + 3 * 32 * (1 + weight) * UNIT


@pytest.mark.parametrize("weight", [1.0, 0.3])
@PAIRS
def test_the_score_is_the_formula_of_both_networks(method, weight):
    outputs = method.draw(7, 4)
    objective = reducible(method.objective(), weight)
    assert objective.ordered is method.ordered and not isinstance(objective, AdditiveObjective)
    losses = objective.pair_losses(tuple(output.float() for output in outputs))
    assert losses.dtype == torch.float32
    for i, j in permutations(range(4), 2):
        assert (losses[:, i, j] - by_hand(method, outputs, i, j, weight)).abs().max() <= error(method, outputs, weight)


class Given(nn.Module):
    """Hands out embeddings by the number that a view's pixels hold."""

    def __init__(self, output):
        super().__init__()
        self.output = output.transpose(0, 1).flatten(0, 1)

    def forward(self, pixels):
        return self.output[pixels[:, 0, 0, 0].long()]


@pytest.mark.parametrize("name", ["BYOL", "MoCo v2", "MoCo v3"])
def test_a_selector_chooses_by_it_without_another_forward(name):
    images, views, method = 40, 4, METHODS[name]
    outputs = method.draw(images, views, 5)
    trained, momentum = (Given(output.float()) for output in outputs)
    parts = {"encoder": trained, "momentum_encoder": momentum}
    objective = {
        "BYOL": lambda: BYOL(encoder=trained, predictor=nn.Identity(), target_encoder=momentum),
        "MoCo v2": lambda: MoCoV2(**parts, queue=method.objective().queue, temperature=0.3),
        "MoCo v3": lambda: MoCoV3(**parts, predictor=nn.Identity(), temperature=0.3),
    }[name]()
    candidates = torch.arange(float(images * views)).reshape(views, images, 1, 1, 1).expand(-1, -1, 3, 1, 1)
    calls = []
    for given in (trained, momentum):
        given.register_forward_pre_hook(lambda module, args: calls.append(module))
    selection = hvs.HardViewSelector(reducible(objective)).select(list(candidates.unbind(0)))
    assert calls == [trained, momentum]
    pairs = list((permutations if method.ordered else combinations)(range(views), 2))
    score_BP = torch.stack([by_hand(method, outputs, i, j, 1.0) for i, j in pairs], dim=1)
    chosen_B = torch.tensor([pairs.index(tuple(pair)) for pair in selection.pair.tolist()])
    best_B = score_BP.gather(1, chosen_B[:, None])[:, 0]
    assert (best_B >= score_BP.amax(1) - 2 * error(method, outputs, 1.0)).all()
    # other pairs than those of the largest loss
    plain_B = torch.stack([method.formula(outputs, i, j) for i, j in pairs], dim=1).argmax(1)
    assert (plain_B != chosen_B).sum() > images / 4


def test_a_network_that_equals_its_momentum_network_finds_nothing_to_reduce():
    z = METHODS["BYOL"].draw(5, 4)[0].float()
    assert not reducible(METHODS["BYOL"].objective()).pair_losses((z, z)).any()


def test_a_weight_is_read_at_each_scoring():
    method, now = METHODS["BYOL"], {"weight": 0.5}
    outputs = tuple(output.float() for output in method.draw(5, 4))
    objective = reducible(method.objective(), lambda: now["weight"])
    first = objective.pair_losses(outputs)
    now["weight"] = 2.0
    assert torch.equal(objective.pair_losses(outputs), reducible(method.objective(), 2).pair_losses(outputs))
    assert torch.equal(first, reducible(method.objective(), 0.5).pair_losses(outputs))


# ---- DINO ----


def network(seed, dtype=torch.float64):
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 6, 3, stride=2), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 12), nn.GELU()
    return nn.Sequential(*layers, nn.Linear(12, K)).to(dtype)


def dino(**options):
    center = torch.randn(1, K, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 0.1
    return DINO(network(1), network(2), center, 0.04, **options)


@pytest.mark.parametrize("options", [{}, {"chunk": 30}, {"compile": {"backend": "eager"}}], ids=str)
@pytest.mark.parametrize("recipe", [RECIPE, make_recipe(["view"] * 4, 0)], ids=["crops", "pairs"])
def test_the_choice_is_that_of_all_combinations(recipe, options):
    images, objective, weight = 50, dino(), 0.8
    torch._dynamo.reset()
    pixels = make_pixels(recipe, images, dtype=torch.float64)
    selection = hvs.HardViewSelector(reducible(objective, weight), **options).select(pixels, make_rows(recipe, images))
    with torch.no_grad():
        teachers, students = ([net[0](view) for view in pixels] for net in (objective.teacher, objective.student))
    every = every_combination(recipe)

    def losses(of):
        return torch.stack([dino_loss([teachers[s] for s in c[:2]], [of[s] for s in c], objective.center) for c in every], dim=1)

    score = losses(students) - weight * losses(teachers)
    largest = max(float(output.abs().max()) for output in teachers + students)
    # float32's rounding of each loss; the networks' own, in float64, is far below it
    bound = (1 + weight) * rounding(0.04, 0.1, largest, K)
    taken = torch.tensor([every.index(tuple(slots)) for slots in selection.slots.tolist()])
    assert (score.amax(1) - score[torch.arange(images), taken]).max() <= 2 * bound
    np.testing.assert_allclose(selection.loss, score[torch.arange(images), taken], rtol=2.0**-24, atol=bound)
    assert (losses(students).argmax(1) != taken).sum() > images / 4


def test_only_local_views_pass_the_teacher_in_addition():
    objective, seen = dino(), []
    for name in ("student", "teacher"):
        hook = lambda module, args, name=name: seen.append((name, args[0].shape[-1], len(args[0])))  # noqa: E731
        getattr(objective, name)[0].register_forward_pre_hook(hook)
    pixels, rows = make_pixels(RECIPE, 3, dtype=torch.float64), make_rows(RECIPE, 3)
    plain, less = [], []
    for how, found in ((objective, plain), (reducible(objective), less)):
        seen.clear()
        hvs.HardViewSelector(how).select(pixels, rows)
        found += seen
    assert sorted(less) == sorted([*plain, ("teacher", 4, 21)])


def test_the_teachers_outputs_can_be_kept():
    objective = dino()
    pixels, rows = make_pixels(RECIPE, 3, dtype=torch.float64), make_rows(RECIPE, 3)
    selection = hvs.HardViewSelector(reducible(objective), keep_teacher=True).select(pixels, rows)
    views = [torch.stack([pixels[slot][image] for image, slot in enumerate(column)]) for column in selection.pair.T.tolist()]
    with torch.no_grad():
        # in float64, from batches of another size
        torch.testing.assert_close(selection.teacher_outputs, objective.teacher[0](torch.cat(views)), rtol=1e-12, atol=1e-12)


# ---- traces ----


def multi_crop():
    trainer = DISTILLERS["DINO"]()
    trainer.objective = reducible(trainer.objective)
    return trainer


def test_scoring_dino_leaves_no_trace():
    assert traces(multi_crop, make_pixels(RECIPE, 5)) == set()


@pytest.mark.parametrize("method", ["BYOL", "MoCo v2", "MoCo v3"])
def test_modules_are_those_of_the_objective_inside(method):
    plain = started(TRAINERS[method]).objective
    assert reducible(plain).modules() == plain.modules()
    selector = hvs.HardViewSelector(reducible(plain, lambda: 0.5))
    selector(make_candidates())
    assert selector.is_fresh(selector.last)
    with torch.no_grad():
        for parameter in plain.modules()[-1].parameters():
            parameter.add_(1)
    assert not selector.is_fresh(selector.last)


# ---- what is refused ----

SAME = nn.Identity()


@pytest.mark.parametrize(
    "objective",
    [
        SimCLR(encoder=SAME),
        SimSiam(encoder=SAME, predictor=SAME),
        EarlyFeatures(nn.Sequential(SAME), "0"),
        IBOT(SAME, SAME, None, None, 0.04, 0.07),
        reducible(BYOL(encoder=SAME, predictor=SAME, target_encoder=SAME)),
        SAME,
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_objectives_without_a_momentum_network_are_refused(objective):
    with pytest.raises(SelectionError, match=f"reducible needs an objective whose momentum .* got .*{type(objective).__name__}; pass one"):
        reducible(objective)


def test_what_means_nothing_is_refused():
    with pytest.raises(SelectionError, match='got a DINO with scored_by="teacher", which does not ask the student; leave scored_by= out'):
        reducible(dino(scored_by="teacher"))
    for weight in (0, -1, "1", float("nan")):
        with pytest.raises(SelectionError, match="weight must be a number above 0"):
            reducible(METHODS["BYOL"].objective(), weight)
    for missing in (SimCLR(encoder=SAME).momentum_outputs, EarlyFeatures(nn.Sequential(SAME), "0").encode_local_by_teacher):
        with pytest.raises(SelectionError, match=f"has no {missing.__name__}.*; write one"):
            missing(torch.zeros(1, 2, 3))


def test_one_of_your_own_says_what_its_momentum_network_gives():
    class Own(hvs.Objective):
        def encode(self, pixels):
            return pixels.flatten(1), 2 * pixels.flatten(1).flip(1)

        def pair_losses(self, outputs):
            a, b = outputs
            return (a[:, :, None] - b[:, None]).square().sum(-1)

        def momentum_outputs(self, outputs):
            return outputs[1], outputs[1]

    pixels = make_pixels(make_recipe(["view"] * 4, 0), 6)
    selection = hvs.HardViewSelector(reducible(Own(), 0.5)).select(pixels)
    a = torch.stack([view.double().flatten(1) for view in pixels], dim=1)
    b = 2 * a.flip(2)
    expected = (a[:, :, None] - b[:, None]).square().sum(-1) - 0.5 * (b[:, :, None] - b[:, None]).square().sum(-1)
    for i, j in combinations(range(4), 2):
        # sums of 192 squares below 200 each
        assert torch.allclose(selection.losses[:, i, j].double(), expected[:, i, j], rtol=0, atol=200 * 192 * 200 * UNIT)
