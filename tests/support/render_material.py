"""Images, rows and recipes that the tests of renderers share."""

# Axes: B image, V view, H W pixels, S side.

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hvs_data import recipes
from hvs_data.arguments.sizes import Size
from hvs_data.recipes import Recipe
from hvs_data.rows.sampling import sample_views
from hvs_data.types import RenderSpec, ViewParams

INTERPOLATIONS = ("bilinear", "bicubic")

# Every preset, in both variants where it has two, small enough to render in numbers.
PRESETS = {
    "simsiam": recipes.simsiam(4, size=32),
    "moco_v2": recipes.moco_v2(size=32),
    "simclr": recipes.simclr(size=224),
    "moco_v3": recipes.moco_v3(size=32),
    "byol": recipes.byol(4, size=32),
    "barlow_twins": recipes.barlow_twins(size=32),
    "vicreg": recipes.vicreg(size=32),
    "msn": recipes.msn(size=32, local_size=14),
    "dino, paper": recipes.dino(size=32, local_size=14),
    "dino, as run": recipes.dino(size=32, local_size=14, variant="as_run"),
    "ibot, paper": recipes.ibot(size=32, local_size=14),
    "ibot, as run": recipes.ibot(size=32, local_size=14, variant="as_run"),
    "dinov2, paper": recipes.dinov2(size=224, local_size=96),
    "dinov2, as run": recipes.dinov2(size=32, local_size=14, variant="as_run"),
}
# heights and widths of images
SIZES = ((37, 53), (96, 61), (1, 29), (31, 1), (1, 1), (7, 5))


def photo(height: int, width: int, seed: int = 0) -> Tensor:
    """uint8 [H, W, 3]: smooth shades, edges, some noise, saturated corners, a grey patch and a pure colour."""
    draw = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    waves = [np.sin(2 * np.pi * (a * x + b * y) + phase) for a, b, phase in draw.uniform(-2.5, 2.5, (9, 3))]
    image = 128 + 70 * np.stack([waves[c] + waves[c + 3] * (waves[c + 6] > 0) for c in range(3)], axis=-1)
    image += draw.normal(0, 4, image.shape)
    image[height // 2 : height // 2 + 1 + height // 6, : 1 + width // 5] = 90
    image[: 1 + height // 7, width // 2 : width // 2 + 1 + width // 8] = (250, 20, 20)
    return torch.from_numpy(image.round().clip(0, 255).astype(np.uint8))


def plain_rows(boxes_BV4: list[list[tuple[int, int, int, int]]], slot_size: Size = 224, spec: RenderSpec | None = None) -> ViewParams:
    """Rows that only crop and resize."""
    box = torch.tensor(boxes_BV4, dtype=torch.int32)
    shape = box.shape[:2]
    one, zero, no = torch.ones(shape), torch.zeros(shape), torch.zeros(shape, dtype=torch.bool)
    order = torch.arange(4, dtype=torch.uint8).expand(*shape, 4).clone()
    views = shape[1]
    return ViewParams(
        box, no, one, one, one, zero, order, no, zero, no, role=("view",) * views, size=(slot_size,) * views, spec=spec or RenderSpec()
    )


def drawn_rows(recipe: Recipe, images: list[Tensor], seed: int = 0) -> ViewParams:
    """Rows of a recipe for these images."""
    height, width = [image.shape[0] for image in images], [image.shape[1] for image in images]
    return sample_views(recipe, seed=seed, epoch=0, index=list(range(len(images))), height=height, width=width)
