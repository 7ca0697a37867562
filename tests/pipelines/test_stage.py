"""Stages of the user's own: one view a call or many, one thread at a time or several, and those of known libraries."""

from __future__ import annotations

import functools
import math
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

import hvs_data as hvs
from hvs_data.pipelines.stage import Stage
from render_material import PRESETS, SIZES, drawn_rows, photo

IMAGES = [photo(height, width, seed) for seed, (height, width) in enumerate(SIZES)]
ROWS = drawn_rows(PRESETS["moco_v3"], IMAGES)
SIDE = 16


def rendered(stage: Any = None, rows: hvs.ViewParams = ROWS, images: list[Tensor] = IMAGES, num_threads: int = 2) -> Tensor:
    return hvs.render(images, rows, SIDE, normalize=False, extra_stage=stage, num_threads=num_threads)


def kornia(name: str, *args: Any, **kwargs: Any) -> Any:
    return getattr(pytest.importorskip("kornia.augmentation"), name)(*args, **kwargs)


LIBRARIES = {
    "v2.RandomErasing": lambda: v2.RandomErasing(p=0.5),
    "v2.RandomVerticalFlip": lambda: v2.RandomVerticalFlip(0.5),
    "v2.Compose": lambda: v2.Compose([v2.RandomRotation(10), v2.RandomApply([v2.GaussianNoise()])]),
    "kornia.RandomPlanckianJitter": lambda: kornia("RandomPlanckianJitter", p=0.5),
    "kornia.ColorJiggle": lambda: kornia("ColorJiggle", 0.2, 0.2, 0.2, 0.1, p=0.8),
    "kornia.AugmentationSequential": lambda: kornia(
        "AugmentationSequential", kornia("RandomRotation", 10.0), kornia("RandomErasing", p=0.5)
    ),
    "a function of Kornia": lambda: functools.partial(lambda module, x: module(x), kornia("ColorJiggle", 0.2, 0.2, p=1.0)),
}


@pytest.mark.parametrize("make", LIBRARIES.values(), ids=LIBRARIES)
def test_libraries_draw_for_every_view(make: Any) -> None:
    """Equal whatever the threads, and each view as if it were alone, from its row."""
    stage, before = make(), torch.get_rng_state()
    together = rendered(stage, num_threads=4)
    assert torch.equal(rendered(stage, num_threads=1), together)
    for image, slot in ((0, 0), (2, 1), (len(IMAGES) - 1, ROWS.num_views - 1)):
        alone = rendered(stage, ROWS.images([image]).views([slot]), [IMAGES[image]])
        assert torch.equal(alone[0, 0], together[image, slot])
    # one and the same picture in every view: what a stage decides once a call would be the same in all
    same = replace(ROWS.images([0] * 16).views([0, 0]), key=torch.arange(32).view(16, 2))
    views = rendered(stage, same, [IMAGES[0]] * 16).flatten(0, 1)
    assert len({view.numpy().tobytes() for view in views}) >= 2
    assert any(not torch.equal(first, second) for first, second in views.unflatten(0, (16, 2)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("stage", [lambda x: x.transpose(-1, -2), lambda x: x.mul_(0.5), lambda x: x[:, [2, 1, 0]], nn.Identity()])
def test_what_shares_memory_with_what_it_was_given(stage: Any) -> None:
    plain = rendered()
    assert torch.equal(rendered(stage), torch.stack([stage(view[None].clone())[0] for view in plain.flatten(0, 1)]).view_as(plain))


def test_batched_stages_get_the_views_of_an_image_and_their_keys() -> None:
    shapes, seen = set(), []

    def stage(x: Tensor, keys: Tensor) -> Tensor:
        shapes.add(tuple(x.shape))
        seen.extend(keys.tolist())
        return x * hvs.uniform(keys, 1)[:, :, None, None]

    batched = rendered(Stage(stage, batched=True))
    assert shapes == {(ROWS.num_views, 3, SIDE, SIDE)} and ROWS.key is not None
    assert sorted(seen) == sorted(ROWS.key.flatten().tolist())
    assert torch.equal(rendered(stage), batched)  # the same numbers one by one
    factor = hvs.uniform(ROWS.key.flatten(), 1).view(*ROWS.key.shape, 1, 1, 1)
    assert torch.equal(batched, rendered() * factor)


def test_what_a_batched_stage_draws_otherwise_belongs_to_the_call() -> None:
    stage = Stage(lambda x: x * torch.rand(len(x), 1, 1, 1), batched=True)
    assert torch.equal(rendered(stage, num_threads=1), rendered(stage, num_threads=4))
    with pytest.raises(hvs.HvsError, match="rows with a key"):
        rendered(stage, replace(ROWS, key=None))


class Remembers(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        self.drawn = float(torch.rand(()))
        time.sleep(0.001)
        return x * self.drawn


def test_a_module_that_keeps_what_it_draws_is_called_by_one_thread_at_a_time() -> None:
    assert torch.equal(rendered(Remembers(), num_threads=8), rendered(Remembers(), num_threads=1))


def test_several_threads_call_what_keeps_nothing() -> None:
    both = threading.Barrier(2, timeout=30)

    def stage(x: Tensor) -> Tensor:
        both.wait()
        return x

    rendered(Stage(stage, parallel=True), ROWS.images([0, 0]), [IMAGES[0]] * 2)


REMEMBERS = Remembers()


def shades(x: Tensor, factor: float = 0.5) -> Tensor:
    return x * factor * math.sqrt(np.float64(4))


def shades_of_shades(x: Tensor) -> Tensor:
    return torch.relu(shades(x))


def names_a_module(x: Tensor) -> Tensor:
    return REMEMBERS(x)


class Unknown:
    def __call__(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("stage", "parallel"),
    [
        (shades, True),
        (shades_of_shades, True),
        (functools.partial(shades, factor=2), True),
        (nn.Sequential(nn.Identity(), nn.ReLU()), True),
        (v2.RandomErasing(), True),
        (v2.Compose([v2.RandomRotation(10), nn.Identity()]), True),
        (v2.Compose([v2.RandomRotation(10), Remembers()]), False),
        (v2.Lambda(Unknown()), False),
        (REMEMBERS, False),
        (names_a_module, False),
        (lambda x: REMEMBERS(x), False),
        (functools.partial(names_a_module), False),
        (Unknown(), False),
        (Unknown().__call__, False),
    ],
)
def test_what_is_known_to_keep_nothing(stage: Any, parallel: bool) -> None:
    assert Stage(stage).parallel is parallel
    assert Stage(stage, parallel=not parallel).parallel is not parallel
