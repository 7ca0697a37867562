"""DINO against lightly's loss and the published formula in float64, over all combinations of views."""

from itertools import combinations

import numpy as np
import pytest
import torch
from lightly.loss import DINOLoss
from torch import nn

import hvs_data as hvs
from distillers import RECIPE, chosen, cross_entropy, dino_loss, effect_of_rounding, rounding
from hvs_data import SelectionError
from hvs_data.objectives import DINO
from multi_crop import every_combination, make_pixels, make_rows

K = 24


def make_network(seed, dtype=torch.float32):
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 6, 3, stride=2), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 12), nn.GELU()
    return nn.Sequential(*layers, nn.Linear(12, K)).to(dtype)


def make_objective(dtype=torch.float32, **options):
    student, teacher = make_network(1, dtype), make_network(2, dtype)
    center = torch.randn(1, K, generator=torch.Generator().manual_seed(3)).to(dtype) * 0.1
    return DINO(student, teacher, center, 0.04, **options)


def logits_of(objective, pixels):
    """Of teacher and student, view by view, from one forward for each size, as the selector makes it."""
    sizes = [view.shape[-1] for view in pixels]
    groups = [torch.cat([view for view in pixels if view.shape[-1] == size]) for size in dict.fromkeys(sizes)]
    with torch.no_grad():
        return [
            [view for group in groups for view in network(group).split(len(pixels[0]))]
            for network in (objective.teacher[0], objective.student[0])
        ]


def largest(*logits):
    return max(float(output.abs().max()) for outputs in logits for output in outputs)


@pytest.mark.parametrize(
    ("dtype", "options"),
    [(torch.float32, {}), (torch.float64, {}), (torch.float64, {"chunk": 30}), (torch.float64, {"bn": "per_view"})],
    ids=str,
)
def test_the_choice_is_the_hardest_of_all_combinations(dtype, options):
    """Four global candidates of two roles and seven local ones, of which three are chosen, for 300 images."""
    images, objective = 300, make_objective(dtype)
    pixels = make_pixels(RECIPE, images, dtype=dtype)
    selection = hvs.HardViewSelector(objective, **options).select(pixels, make_rows(RECIPE, images))
    teachers, students = logits_of(objective, pixels)
    combinations = every_combination(RECIPE)
    losses = torch.stack(
        [dino_loss([teachers[slot] for slot in c[:2]], [students[slot] for slot in c], objective.center) for c in combinations], dim=1
    )
    # in float64 the networks' own rounding, which depends on how views are batched, is as far below this as in float32 it would be near
    bound = rounding(0.04, 0.1, largest(teachers, students), K) * (1 if dtype == torch.float32 else 2.0**-20)
    best = losses.amax(1)
    taken = torch.tensor([combinations.index(tuple(slots)) for slots in selection.slots.tolist()])
    assert (best - losses[torch.arange(images), taken]).max() <= 2 * bound
    clear = best - losses.sort(1, descending=True).values[:, 1] > 2 * bound
    assert torch.equal(taken[clear], losses.argmax(1)[clear]) and clear.sum() > images / 2
    np.testing.assert_allclose(selection.loss, best, rtol=2.0**-24, atol=bound)
    assert int(selection.non_finite) == 0


def lightly_loss(center):
    loss = DINOLoss(K, teacher_temp=0.04).to(center.dtype)
    loss.center.copy_(center.reshape(1, 1, K))
    return loss


def test_the_mean_over_a_batch_is_lightlys_loss():
    images, objective = 40, make_objective(torch.float64)
    pixels = make_pixels(RECIPE, images, dtype=torch.float64)
    selector = hvs.HardViewSelector(objective)
    views = selector(pixels, make_rows(RECIPE, images))
    teachers, students = logits_of(objective, views)
    expected = lightly_loss(objective.center)(teachers[:2], students)
    # lightly takes its temperatures as float32
    bound = rounding(0.04, 0.1, largest(teachers, students), K)
    assert abs(float(selector.last.loss.mean() - expected)) <= bound

    # of two global views alone, every pair
    teachers, students = logits_of(objective, pixels[:4])
    assert objective.pair_losses((torch.zeros(3, 2, K), torch.zeros(3, 2, K))).dtype == torch.float32
    losses = objective.pair_losses((torch.stack(teachers, 1), torch.stack(students, 1)))
    assert torch.equal(losses, losses.transpose(1, 2))
    for i in range(4):
        for j in range(i):
            expected = lightly_loss(objective.center)([teachers[i], teachers[j]], [students[i], students[j]])
            assert abs(float(losses[:, i, j].mean() - expected)) <= bound


def test_the_term_table_is_divided_by_the_number_of_terms():
    draw = torch.Generator().manual_seed(0)
    teacher, student, local = (torch.randn(3, views, K, generator=draw) for views in (2, 2, 5))
    table = make_objective().term_table(teacher, student, local, 7)
    center = make_objective().center
    assert table.shape == (3, 2, 7) and table.dtype == torch.float32
    expected = dino_loss(teacher.unbind(1), [*student.unbind(1), *local.unbind(1)], center)
    np.testing.assert_allclose(table.sum((1, 2)), expected, rtol=0, atol=13 * rounding(0.04, 0.1, largest(teacher, student, local), K))
    assert torch.equal(table[:, [0, 1], [0, 1]], torch.zeros(3, 2))


# ---- what is read at each scoring ----


def test_centre_and_temperatures_are_read_at_each_scoring():
    center, temperatures = [torch.zeros(1, K)], {"teacher": 0.04, "student": 0.1}
    networks = make_network(1), make_network(2)
    objective = DINO(*networks, lambda: center[0], lambda: temperatures["teacher"], lambda: torch.tensor(temperatures["student"]))
    pixels = make_pixels(RECIPE, 5)[:4]
    outputs = tuple(torch.stack(logits, 1) for logits in logits_of(objective, pixels))
    before = objective.pair_losses(outputs)
    for change in (
        lambda: center.__setitem__(0, torch.randn(1, K)),
        lambda: temperatures.update(teacher=0.07),
        lambda: temperatures.update(student=0.2),
    ):
        change()
        after = objective.pair_losses(outputs)
        assert not torch.allclose(after, before, atol=1e-3)
        # teacher's and student's networks in their order
        same = DINO(*networks, center[0], temperatures["teacher"], temperatures["student"])
        assert torch.equal(same.pair_losses(outputs), after)
        before = after


def test_a_centre_that_changes_in_place_is_followed():
    objective = make_objective()
    outputs = tuple(torch.stack(logits, 1) for logits in logits_of(objective, make_pixels(RECIPE, 5)[:4]))
    before = objective.pair_losses(outputs)
    objective.center.add_(torch.linspace(0, 1, K))
    assert not torch.allclose(objective.pair_losses(outputs), before, atol=1e-3)


def test_no_centre_is_a_centre_of_zero():
    networks = make_network(1), make_network(2)
    outputs = tuple(torch.randn(3, 4, K) for _ in range(2))
    without = DINO(*networks, None, 0.04).pair_losses(outputs)
    assert torch.equal(without, DINO(*networks, torch.zeros(K), 0.04).pair_losses(outputs))


# ---- low precision ----


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_changes_no_more_choices_than_rounding_explains(dtype):
    images, draw = 400, torch.Generator().manual_seed(0)
    exact = [torch.randn(images, views, K, generator=draw, dtype=torch.float64) for views in (4, 4, 7)]
    center = torch.zeros(K)

    class Logits(DINO):
        """Logits as given, in a type."""

        def __init__(self, logits):
            super().__init__(nn.Identity(), nn.Identity(), center, 0.5, 1.0)
            self.logits = [outputs.transpose(0, 1).flatten(0, 1) for outputs in logits]

        def encode(self, pixels):
            return self.logits[0], self.logits[1]

        def encode_local(self, pixels):
            return self.logits[2]

    pixels, rows = make_pixels(RECIPE, images), make_rows(RECIPE, images)
    slots = [hvs.HardViewSelector(Logits(logits)).select(pixels, rows).slots for logits in (exact, [o.to(dtype) for o in exact])]

    combinations = every_combination(RECIPE)
    students = [*exact[1].unbind(1), *exact[2].unbind(1)]

    def of_all(term):
        return torch.stack(
            [dino_loss([exact[0][:, s] for s in c[:2]], [students[s] for s in c], center, 0.5, 1.0, term) for c in combinations], dim=1
        )

    losses, image = of_all(cross_entropy), torch.arange(images)
    moved = of_all(effect_of_rounding(torch.finfo(dtype).eps / 2)) + rounding(0.5, 1.0, largest(*exact), K)
    right, taken = losses.argmax(1), torch.tensor([combinations.index(tuple(choice)) for choice in slots[1].tolist()])
    lost = losses[image, right] - losses[image, taken]
    assert torch.equal(slots[0], torch.tensor(combinations)[right])
    assert (lost <= moved[image, right] + moved[image, taken]).all()
    # the bound tells a wrong choice from rounding: it is far below what the worst choice would lose
    assert 10 * moved.mean() < (losses.amax(1) - losses.amin(1)).mean()
    assert (dtype == torch.float16 or (taken != right).any()) and (taken == right).float().mean() > 0.5


# ---- networks and what is refused ----


def test_parts_are_called_one_after_the_other():
    backbone = nn.Sequential(nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1))
    head = nn.Linear(6, K)
    pixels = torch.randn(5, 3, 8, 8)
    whole = nn.Sequential(backbone, nn.Flatten(), head)
    for student in ((backbone, head), [backbone, head], nn.ModuleList([backbone, head]), whole):
        objective = DINO(student, whole, None, 0.04)
        teacher, students = objective.encode(pixels)
        assert torch.equal(teacher, students) and torch.equal(students, whole(pixels))
        assert torch.equal(objective.encode_local(pixels), students)
    found = {id(module) for module in DINO((backbone, head), whole, None, 0.04).modules()}
    assert found == {id(backbone), id(head), id(whole)}


def test_functions_may_name_their_modules():
    network, other = make_network(1), make_network(2)
    objective = DINO(lambda pixels: network(pixels), other, None, 0.04, modules=[network])
    assert objective.modules() == [network, other]  # found behind the function too, and listed once


def test_a_distributed_wrapper_is_passed_by():
    network = make_network(1)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(network)
        assert DINO(wrapped, make_network(2), None, 0.04).student == (network,)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": None}, "expected DINO's student= as a module"),
        ({"teacher": ()}, "expected DINO's teacher= as a module"),
        ({"teacher": (nn.Identity(), 3)}, "teacher="),
        ({"center": 0.5}, "expected DINO's center= as a tensor, a function.* got float.*lambda: loss.center"),
        ({"center": DINOLoss(K)}, "got DINOLoss; a function"),
        ({"teacher_temperature": 0}, "teacher_temperature must be a number above 0"),
        ({"student_temperature": "0.1"}, "student_temperature must be a number above 0"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(changes, message):
    arguments = {"student": nn.Identity(), "teacher": nn.Identity(), "center": None, "teacher_temperature": 0.04}
    with pytest.raises(SelectionError, match=message):
        DINO(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": nn.Identity()}, r"DINO's student to return logits, a floating tensor \[N, K\], got torch.float32 \[10, 3, 8, 8\]"),
        (
            {"teacher": lambda pixels: {"logits": pixels}},
            r"DINO's teacher to return one tensor.* got dict \(\['logits'\]",
        ),
        ({"teacher": lambda pixels: pixels.flatten(1).long()}, "got torch.int64"),
        ({"center": torch.zeros(K + 1)}, rf"center to hold one number for each of the {K} outputs.*\[{K + 1}\]"),
        ({"center": lambda: 0.5}, "center to hold one number"),
        ({"teacher_temperature": lambda: -1.0}, "teacher_temperature must be .* got -1.0"),
        ({"teacher": lambda pixels: torch.zeros(len(pixels), K + 1)}, "over the same prototypes"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(changes, message):
    arguments = {"student": make_network(1), "teacher": make_network(2), "center": None, "teacher_temperature": 0.04}
    selector = hvs.HardViewSelector(DINO(**{**arguments, **changes}))
    with pytest.raises(SelectionError, match=message):
        selector.select([torch.zeros(5, 3, 8, 8)] * 2)


def test_chosen_views_are_what_the_selector_returns():
    images, objective = 6, make_objective()
    pixels = make_pixels(RECIPE, images)
    selector = hvs.HardViewSelector(objective)
    views = selector(pixels, make_rows(RECIPE, images))
    assert all(torch.equal(view, expected) for view, expected in zip(views, chosen(pixels, selector.last.slots), strict=True))


@pytest.mark.parametrize("locals_", [0, 5])
def test_three_teachers_views_are_chosen_as_lightlys_loss_has_them(locals_):
    """Of five global candidates three, and of the local ones three, against lightly's DINOLoss of every combination."""
    images, objective = 12, make_objective(torch.float64)
    like = hvs.recipes.Role(size=8)
    local = (hvs.recipes.Role("local", candidates=5, emitted=3, size=4),) if locals_ else ()
    recipe = hvs.recipes.Recipe("three", (hvs.recipes.Role(candidates=5, emitted=3, size=like.size), *local))
    pixels = make_pixels(recipe, images, dtype=torch.float64)
    selection = hvs.HardViewSelector(objective).select(pixels, make_rows(recipe, images))
    teachers, students = logits_of(objective, pixels)
    rest = list(combinations(range(5, 10), 3)) if locals_ else [()]
    every = [(*globals_, *chosen_locals) for globals_ in combinations(range(5), 3) for chosen_locals in rest]
    criterion = DINOLoss(K, warmup_teacher_temp=0.04, teacher_temp=0.04).double()
    criterion.center = objective.center().reshape(1, 1, K).double() if callable(objective.center) else objective.center.reshape(1, 1, K)
    center = criterion.center.clone()
    for image in range(images):
        losses = []
        for slots in every:
            one = slice(image, image + 1)
            losses.append(float(criterion([teachers[slot][one] for slot in slots[:3]], [students[slot][one] for slot in slots], epoch=50)))
            criterion.center = center.clone()
        # float32 terms of differences up to 2 / 0.1 err by less than 1e-5
        found = losses[every.index(tuple(selection.slots[image].tolist()))]
        assert found == pytest.approx(float(selection.loss[image]), abs=1e-5) and found >= max(losses) - 1e-5
