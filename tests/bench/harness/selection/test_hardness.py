"""Captured hardness against every choice counted one by one."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

import hvs_data as hvs
from harness.pretraining import arms, methods
from harness.selection import hardness
from harness.selection.hardness import Exact, Ratio
from hvs_data.rows.layout import layout_of

IMAGES = 5


def pair_losses() -> Exact:
    losses = torch.rand(IMAGES, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    losses = losses + losses.transpose(1, 2)
    return Exact(layout_of(4, None, ordered=False), losses=losses)


def multi_crop() -> Exact:
    recipe = hvs.recipes.dino(candidates=4, local_candidates=5, local_views=2, size=16, local_size=8)
    terms = torch.rand(IMAGES, 4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    terms.diagonal(dim1=1, dim2=2).zero_()
    return Exact(layout_of(9, recipe, ordered=False), terms=terms)


def all_choices(exact: Exact) -> list[list[int]]:
    locals_ = itertools.combinations(exact.layout.local_slots, exact.layout.emitted_locals)
    return [[*pair, *chosen] for pair, chosen in itertools.product(exact.layout.pairs, list(locals_))]


def counted(exact: Exact, image: int, slots: list[int]) -> float:
    """The loss of chosen views from its definition, term by term."""
    if exact.losses is not None:
        return exact.losses[image, slots[0], slots[1]].item()
    assert exact.terms is not None
    students = [*exact.layout.global_slots, *exact.layout.local_slots]
    return sum(
        exact.terms[image, students.index(teacher), students.index(student)].item()
        for teacher in slots[:2]
        for student in slots
        if student != teacher
    )


@pytest.mark.parametrize("exact", [pair_losses(), multi_crop()], ids=["pairs", "multi-crop"])
def test_hardest_and_random_choices_are_those_of_all_that_may_be_chosen(exact: Exact) -> None:
    choices = all_choices(exact)
    assert len(choices) == (6 if exact.losses is not None else 4 * math.comb(5, 2))
    every = torch.tensor([[counted(exact, image, slots) for slots in choices] for image in range(IMAGES)], dtype=torch.float64)
    # float64 sums of at most a hundred numbers below 8: 1e2 * 8 * 2**-53 < 1e-13
    torch.testing.assert_close(exact.of_hardest(), every.amax(1), rtol=0, atol=1e-13)
    torch.testing.assert_close(exact.of_random_choice(), every.mean(1), rtol=0, atol=1e-13)
    for place, slots in enumerate(choices):
        torch.testing.assert_close(exact.of(torch.tensor([slots] * IMAGES)), every[:, place], rtol=0, atol=1e-13)


@pytest.mark.parametrize("exact", [pair_losses(), multi_crop()], ids=["pairs", "multi-crop"])
def test_the_hardest_choice_captures_all_and_all_choices_together_nothing(exact: Exact) -> None:
    choices = all_choices(exact)
    values = torch.stack([exact.of(torch.tensor([slots] * IMAGES)) for slots in choices], dim=1)
    best = torch.tensor(choices)[values.argmax(1)]
    found = hardness.captured([best], [exact], [exact])
    assert found.share.value == pytest.approx(1, abs=1e-12) and found.share.standard_error == pytest.approx(0, abs=1e-9)
    each_once = [torch.tensor([slots] * IMAGES) for slots in choices]
    found = hardness.captured(each_once, [exact] * len(choices), [exact] * len(choices))
    assert found.share.value == pytest.approx(0, abs=1e-12) and found.images == IMAGES * len(choices)


def test_more_candidates_are_measured_by_the_gap_of_four() -> None:
    layout = layout_of(4, None, ordered=False)
    losses = torch.zeros(2, 4, 4, dtype=torch.float64)
    losses[:, 0, 1] = losses[:, 1, 0] = 6.0  # of 6 pairs: mean 1, gap 5
    four = Exact(layout, losses=losses / 2)
    found = hardness.captured([torch.tensor([[0, 1], [0, 1]])], [Exact(layout, losses=losses)], [four])
    assert (found.share.value, found.of_four.value) == pytest.approx((1, 2))


def test_the_standard_error_is_that_of_drawing_images_anew() -> None:
    draw = torch.Generator().manual_seed(0)
    below = 1 + torch.rand(400, generator=draw)
    above = 0.6 * below + 0.3 * torch.randn(400, generator=draw)
    stated = Ratio.of_means(above, below).standard_error
    again = [(index := torch.randint(400, (400,), generator=draw), above[index].mean() / below[index].mean())[1] for _ in range(2000)]
    # the deviation of 2000 draws is known to 1 / sqrt(2 * 2000) = 1.6 %; three of these, and the second order of the estimator below 1 %
    assert stated == pytest.approx(torch.stack(again).std().item(), rel=0.06)


@pytest.mark.parametrize("method", ["simsiam", "dino"])
def test_exact_selection_captures_everything_and_a_random_one_little(method: str, photo_folder: Path) -> None:
    sizes = methods.Sizes(view=32, width=8, stem_stride=2, batch=4)
    its = methods.build(method, sizes, seed=0)

    def loader() -> hvs.ViewLoader:
        return hvs.ViewLoader([*map(str, sorted(photo_folder.glob("*.jpg")))] * 4, its.recipe(4), 4, seed=3, drop_last=True, num_threads=1)

    exact = hardness.exact_losses(loader(), its.objective(), None, batches=6)
    assert len(exact) == 6 and exact[0].layout.views == (4 if method == "simsiam" else 8)

    def chosen(arm: arms.Arm) -> list[Tensor]:
        return [batch.selection.slots for batch in arms.feed(arm, loader(), its, seed=0)]

    found = hardness.captured(chosen(arms.ARMS["hardest"]), exact, exact)
    # the same forwards of the same pixels: sums may be taken in another order, and equal losses fall either way
    assert found.share.value == pytest.approx(1, abs=1e-5)
    assert hardness.captured(chosen(arms.ARMS["easiest"]), exact, exact).share.value < 0


def test_tables_are_recorded_for_a_while_only() -> None:
    method = methods.build("dino", methods.Sizes(view=16, width=8), seed=0)
    objective = method.objective()
    logits = torch.randn(2, 2, len(method.model.center))
    with hardness.term_tables(objective) as tables:
        made = objective.term_table(logits, logits, None, 2)
    assert len(tables) == 1 and tables[0] is made
    objective.term_table(logits, logits, None, 2)
    assert len(tables) == 1
