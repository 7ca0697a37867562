"""The spread of a model's outputs: which outputs count, in parts and as a whole, of a selector's steps of all kinds."""

# Axes: N image, B image, V view, D embedding.

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import hvs_data as hvs
from given_losses import Numbered, numbered_views
from hvs_data.forwards.spread import MOST_IMAGES, OutputSpread
from multi_crop import make_pixels, make_recipe, make_rows

# float32's unit: a deviation of numbers up to 1, times the root of up to 64 dimensions
CLOSE = 64 * 2**-24 * 8


def spread(vectors_ND: Tensor) -> float:
    unit_ND = vectors_ND.double().numpy()
    unit_ND = unit_ND / np.linalg.norm(unit_ND, axis=1, keepdims=True)
    return float(unit_ND.std(0, ddof=1).mean() * math.sqrt(unit_ND.shape[1]))


@pytest.mark.parametrize("parts", [[30], [1] * 30, [7, 7, 7, 9]])
def test_parts_count_as_one_batch(parts: list[int]) -> None:
    outputs = torch.randn(30, 3, 12, generator=torch.Generator().manual_seed(0)) + 1
    seen = OutputSpread()
    for part in outputs.split(parts):
        seen.note(part)
    assert float(seen.value()) == pytest.approx(spread(outputs[:, 0]), abs=CLOSE)


def test_no_more_images_than_that_are_kept() -> None:
    outputs = torch.randn(MOST_IMAGES + 50, 2, 8, generator=torch.Generator().manual_seed(0)) + 1
    seen = OutputSpread()
    for part in outputs.split(100):
        seen.note(part)
    assert float(seen.value()) == pytest.approx(spread(outputs[:MOST_IMAGES, 0]), abs=CLOSE)
    assert sum(len(units) for (units,) in seen._parts) == MOST_IMAGES


def test_the_smallest_of_several_outputs_counts_and_maps_and_numbers_do_not() -> None:
    draw = torch.Generator().manual_seed(0)
    wide, narrow = torch.randn(20, 2, 16, generator=draw), torch.randn(20, 2, 16, generator=draw) + 2
    ignored = torch.ones(20, 2, 5, 16), torch.ones(20, 2), torch.ones(20, 2, 1), torch.ones(20, 2, 16, dtype=torch.int64)
    seen = OutputSpread()
    seen.note({"a": wide, "b": (narrow[..., None, None], *ignored)})
    assert float(seen.value()) == pytest.approx(spread(narrow[:, 0]), abs=CLOSE)
    seen = OutputSpread()
    seen.note(ignored)
    assert seen.value() is None


def test_one_image_tells_nothing() -> None:
    seen = OutputSpread()
    assert seen.value() is None
    seen.note(torch.ones(1, 4, 8))
    assert seen.value() is None


class Distilled(hvs.objectives.DINO):
    """DINO of linear maps that take views of both sizes."""

    def __init__(self) -> None:
        self.draw = torch.Generator().manual_seed(0)
        self.head = torch.randn(3, 10, generator=self.draw)
        super().__init__(self.seen_by_student, self.seen_by_teacher, None, 0.04)

    def seen_by_student(self, pixels: Tensor) -> Tensor:
        return pixels.mean((2, 3)) @ self.head

    def seen_by_teacher(self, pixels: Tensor) -> Tensor:
        return self.seen_by_student(pixels.flip(1)) + 1


@pytest.mark.parametrize("chunk", [None, 5])
def test_a_selector_tells_it_of_the_first_global_view(chunk: int | None) -> None:
    recipe, images = make_recipe(locals_=3, chosen=1), 12
    pixels, objective = make_pixels(recipe, images), Distilled()
    selection = hvs.HardViewSelector(objective, chunk=chunk).select(pixels, make_rows(recipe, images))
    student, teacher = objective.seen_by_student(pixels[0]), objective.seen_by_teacher(pixels[0])
    assert float(selection.output_std) == pytest.approx(min(spread(student), spread(teacher)), abs=CLOSE)


def test_a_step_that_asks_nothing_tells_nothing() -> None:
    selector = hvs.HardViewSelector(Distilled(), policy="random")
    assert selector.select([torch.randn(4, 3, 8, 8)] * 2).output_std is None


def test_the_number_of_losses_that_were_looked_at() -> None:
    views, images = numbered_views(5, 6), 6
    rows = make_rows(make_recipe(("view",) * 5, locals_=0), images)
    losses = torch.rand(6, 5, 5)
    assert hvs.HardViewSelector(Numbered(losses)).select(views, rows).num_losses == 60
    assert hvs.HardViewSelector(Numbered(losses, ordered=True)).select(views, rows).num_losses == 120
    assert hvs.HardViewSelector(Numbered(losses), prefilter=3).select(views, rows).num_losses == 18
    rule = hvs.rules.MinIoU(0.5)
    allowed = rule(rows).triu(1).sum((1, 2)).clamp_min(1)  # where none is allowed, the first pair is looked at
    assert hvs.HardViewSelector(Numbered(losses), allowed=rule).select(views, rows).num_losses == int(allowed.sum())
    recipe = make_recipe(locals_=3, chosen=1)
    selector = hvs.HardViewSelector(Distilled())
    # teacher's views of one role with the student's of the other, each view's own term, and 4 x 3 with local views
    assert selector.select(make_pixels(recipe, 4), make_rows(recipe, 4)).num_losses == 4 * (8 + 4 + 12)
