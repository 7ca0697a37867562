"""Batches of views as they are rendered, whose launches are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

import hvs_data as hvs
from harness.gpu_code.launches import Launch, recorded
from hvs_data.kernels.render.canvas import Canvas
from hvs_data.recipes.spec import Recipe
from hvs_data.types import ImageBatch, ViewParams


@dataclass(frozen=True)
class Case:
    """Views of one size of a recipe, and how they are stored."""

    name: str
    recipe: Recipe
    roles: tuple[str, ...]
    dtype: torch.dtype = torch.bfloat16
    channels_last: bool = False


_LOCAL, _GLOBAL = ("local",), ("global1", "global2")
SIMSIAM, DINO = hvs.recipes.simsiam(2), hvs.recipes.dino(2, 2, local_views=2)
CASES = (
    Case("SimSiam, 224", SIMSIAM, ("view",)),
    Case("SimSiam, 224, channels-last", SIMSIAM, ("view",), channels_last=True),
    Case("SimSiam, 224, float32", SIMSIAM, ("view",), torch.float32),
    Case("SimSiam, 224, uint8", SIMSIAM, ("view",), torch.uint8),
    Case("SimCLR, 224", hvs.recipes.simclr(2), ("view",)),
    Case("DINO global, 224", DINO, _GLOBAL),
    Case("DINO local, 96", DINO, _LOCAL),
)


@dataclass(frozen=True)
class Rendering:
    """Launches of a batch, and what they work on.

    Attributes:
        memory: the images' pixels.
        crop_bytes, output_bytes: of a view, on average.
    """

    launches: list[Launch]
    memory: list[Tensor]
    views: int
    crop_bytes: float
    output_bytes: float


def rendering(case: Case, sizes: Sequence[tuple[int, int]], architecture: int, seed: int = 0) -> Rendering:
    """What a batch of images of these sizes would be rendered with."""
    from hvs_data.kernels.render.triton.render import render_views

    images, memory = _images(sizes)
    rows = _rows(case, images, seed)
    size = rows.size[0]
    canvas = Canvas.empty(rows.num_views, len(images), size, case.dtype, channels_last=case.channels_last)
    with recorded(architecture) as launches:
        render_views(images, rows, canvas, normalize=case.dtype.is_floating_point)
    crops = 3 * float((rows.box[..., 2].double() * rows.box[..., 3]).sum())
    views = len(images) * rows.num_views
    return Rendering(launches, [memory], views, crops / views, canvas.flat.nbytes / views)


def _rows(case: Case, images: ImageBatch, seed: int) -> ViewParams:
    rows = hvs.sample_views(case.recipe, seed=seed, epoch=0, index=torch.arange(len(images)), height=images.height, width=images.width)
    return rows.views([slot for role in case.roles for slot in rows.slots(role)])


def _images(sizes: Sequence[tuple[int, int]]) -> tuple[ImageBatch, Tensor]:
    """Images of these sizes that share their memory, whose pixels are smooth with some noise: values hardly matter for the counts."""
    most = max(3 * height * width for height, width in sizes)
    at = np.arange(most)
    noise = np.random.default_rng(0).integers(-8, 9, most)
    memory = torch.from_numpy((128 + 60 * np.sin(at / 700) + 40 * np.sin(at % 3 + at / 9000) + noise).astype(np.uint8))
    part = partial(torch.narrow, memory, 0, 0)
    return ImageBatch([part(3 * height * width).view(height, width, 3) for height, width in sizes]), memory
