"""Batches of views as they are rendered, whose launches are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import hvs_data as hvs
from harness.gpu_code.launches import Launch, recorded
from hvs_data.kernels.render.canvas import Canvas
from hvs_data.recipes.spec import Recipe
from hvs_data.types import ImageBatch

IMAGES, CANVAS = "images", "canvas"  # names of their memory


@dataclass(frozen=True)
class Case:
    """Views of one size of a recipe, and how they are stored.

    Attributes:
        roles: whose slots are rendered.
    """

    name: str
    recipe: Recipe
    roles: tuple[str, ...] = ("view",)
    dtype: torch.dtype = torch.bfloat16
    channels_last: bool = False

    @property
    def usual(self) -> bool:
        """Whether views are stored as is usual for training."""
        return self.dtype == torch.bfloat16 and not self.channels_last


_SIMSIAM, _SIMCLR, _DINO = hvs.recipes.simsiam(2), hvs.recipes.simclr(2), hvs.recipes.dino(2, 2, local_views=2)
CASES = (
    Case("SimSiam, 224", _SIMSIAM),
    Case("SimCLR, 224", _SIMCLR),
    Case("DINO global, 224", _DINO, ("global1", "global2")),
    Case("DINO local, 96", _DINO, ("local",)),
    Case("SimSiam, 224, channels-last", _SIMSIAM, channels_last=True),
    Case("SimSiam, 224, float32", _SIMSIAM, dtype=torch.float32),
    Case("SimSiam, 224, uint8", _SIMSIAM, dtype=torch.uint8),
)


@dataclass(frozen=True)
class Rendering:
    """Launches of a batch, and what they work on.

    Attributes:
        memory: of the images and of the canvas.
        views: rendered.
        crop_bytes, output_bytes: of a view, on average.
    """

    launches: list[Launch]
    memory: dict[str, Tensor]
    views: int
    crop_bytes: float
    output_bytes: float


def rendering(case: Case, sizes: Sequence[tuple[int, int]], architecture: int, seed: int = 0) -> Rendering:
    """What a batch of images of these sizes would be rendered with.

    Args:
        sizes: height and width of each image.
        architecture: compute capability without its point.
        seed: of the rows.
    """
    from hvs_data.kernels.render.triton.render import render_views

    images, pixels = _images(sizes)
    count = len(images)
    rows = hvs.sample_views(case.recipe, seed=seed, epoch=0, index=torch.arange(count), height=images.height, width=images.width)
    rows = rows.views([slot for role in case.roles for slot in rows.slots(role)])
    canvas = Canvas.empty(rows.num_views, count, rows.size[0], case.dtype, channels_last=case.channels_last)
    with recorded(architecture) as launches, _noise_in_new_memory():
        render_views(images, rows, canvas, normalize=case.dtype.is_floating_point)
    views = count * rows.num_views
    crops = 3 * float((rows.box[..., 2].double() * rows.box[..., 3]).sum())
    return Rendering(launches, {IMAGES: pixels, CANVAS: canvas.flat}, views, crops / views, canvas.flat.nbytes / views)


@contextmanager
def _noise_in_new_memory() -> Iterator[None]:
    """Within it, what a sample of an earlier launch leaves out of memory is some pixel there, and the same one each time."""
    empty, noise = torch.empty, torch.from_numpy(np.random.default_rng(0).random(2**20, np.float32))

    def filled(*size: Any, **options: Any) -> Tensor:
        memory = empty(*size, **options)
        flat = memory.flatten()
        for part in flat.split(len(noise)) if memory.dtype in (torch.uint16, torch.float16, torch.bfloat16, torch.float32) else ():
            its = noise[: len(part)]
            part.copy_(its if memory.dtype.is_floating_point else (its * 65535).to(torch.int32).to(memory.dtype))
        return memory

    torch.empty = filled
    try:
        yield
    finally:
        torch.empty = empty


def _images(sizes: Sequence[tuple[int, int]]) -> tuple[ImageBatch, Tensor]:
    """Images of these sizes that share their memory. They are smooth, coloured and a little noisy: the way through the code depends on
    pixels in nothing but divisions."""
    elements = max(3 * height * width for height, width in sizes)
    place = np.arange(elements)
    noise = np.random.default_rng(0).integers(-8, 9, elements)
    pixels = torch.from_numpy((128 + 60 * np.sin(place / 700) + 40 * np.sin(place % 3 + place / 9000) + noise).astype(np.uint8))
    return ImageBatch([pixels[: 3 * height * width].view(height, width, 3) for height, width in sizes]), pixels
