"""The libraries that are compared on a GPU, tried on the CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import hvs_data as hvs
from harness.data.photos import photo_paths
from harness.loaders import gpu_peers


def images() -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (height, width, 3), generator=draw, dtype=torch.uint8) for height, width in [(40, 60), (33, 31)]]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", ["kornia", "torchvision"])
def test_peers_give_as_many_views_of_the_recipe(name: str, interpolation: str) -> None:
    pytest.importorskip(name)
    recipe = replace(hvs.recipes.simsiam(3, size=16), interpolation=interpolation)
    torch.manual_seed(0)
    views = {"kornia": gpu_peers.kornia_views, "torchvision": gpu_peers.torchvision_views}[name](images(), recipe, torch.float32)()
    assert views.shape == (6, 3, 16, 16) and views.isfinite().all()
    # normalised: values of 0 and 1 lie within these bounds, which views of noise nearly reach
    low, high = -0.485 / 0.229 - 0.3, 0.594 / 0.225 + 0.3
    assert low < views.min() < 0 < views.max() < high
    # no two views alike
    assert len({tuple(view.flatten()[:50].tolist()) for view in views}) == 6


def test_the_recipe_without_randomness_is_the_same_views() -> None:
    """Whole images, resized and normalised: so close do the peers' conventions come to ours."""
    pytest.importorskip("torchvision")
    still = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0, "gray": 0.0, "blur": 0.0}
    recipe = hvs.recipes.simsiam(2, size=16)
    recipe = recipe.with_roles(**still, jitter=replace(recipe.roles[0].jitter, p=0.0))
    image = images()[0][:40, :40].contiguous()
    rows = hvs.sample_views(recipe, seed=0, epoch=0, index=[0], height=[40], width=[40])
    expected = hvs.render([image], rows)[0]
    views = gpu_peers.torchvision_views([image], recipe, torch.float32)()
    # rounded to 8 bits after each pass of the resize, whose weights have 15 bits or more
    assert (views - expected).abs().max() <= (1 / 255 + 2**-12) / 0.224


def test_dali_from_files(photo_folder: Path) -> None:
    pytest.importorskip("nvidia.dali")
    paths = [path for path in photo_paths(photo_folder) if path.endswith(".jpg")]
    loader = gpu_peers.DaliLoader(paths, hvs.recipes.simsiam(3, size=24), 2, 1, seed=0, device="cpu")
    batches = list(loader)
    assert len(batches) == len(loader) == len(paths) // 2
    for views, _ in batches:
        assert [tuple(view.shape) for view in views] == [(2, 3, 24, 24)] * 3 and views[0].dtype == torch.float16
        assert -3 < min(view.min() for view in views) < 0 < max(view.max() for view in views) < 3
