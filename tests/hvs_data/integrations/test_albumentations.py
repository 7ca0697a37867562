"""albumentations as a stage: its generators are seeded by view."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import hvs_data as hvs
from hvs_data.integrations.albumentations import stage_of

albumentations = pytest.importorskip("albumentations")

PIXELS = np.random.default_rng(0).integers(0, 255, (24, 24, 32, 3), dtype=np.uint8)


def views(transform: object, **options: object) -> dict[int, torch.Tensor]:
    source = [(pixels, index) for index, pixels in enumerate(PIXELS)]
    options = {"batch_size": 6, "normalize": False, "extra_stage": None if transform is None else stage_of(transform)} | options
    loader = hvs.ViewLoader(source, hvs.recipes.simsiam(candidates=2, size=16), **options)
    return {int(index): torch.stack(of_image) for batch in loader for index, *of_image in zip(batch.index, *batch.views, strict=True)}


def test_equal_seeds_give_equal_views() -> None:
    transform = albumentations.Compose(
        [albumentations.OneOf([albumentations.VerticalFlip(p=1), albumentations.HorizontalFlip(p=1)], p=0.8)]
    )
    expected, plain = views(transform, num_threads=1), views(None)
    again = views(transform, num_threads=4, batch_size=5)
    assert all(torch.equal(again[index], expected[index]) for index in plain)
    # each view is one of the three that the transform can make of it, and all three come
    made = {"plain": 0, "vertical": 0, "horizontal": 0}
    for index, of_image in plain.items():
        for before, after in zip(of_image, expected[index], strict=True):
            options = {"plain": before, "vertical": before.flip(-2), "horizontal": before.flip(-1)}
            (name,) = [name for name, option in options.items() if torch.equal(option, after)]
            made[name] += 1
    assert min(made.values()) > 0 and sum(made.values()) == 48


def test_other_things_are_refused() -> None:
    with pytest.raises(hvs.HvsError, match="expected a transform of albumentations"):
        stage_of(lambda image: image)
