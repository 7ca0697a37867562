"""Loaders on webdataset's and SPDL's engines give every view of a recipe, each drawn anew, as often as asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hvs_data as hvs

for package in ("albumentations", "cv2", "spdl.dataloader", "webdataset"):
    pytest.importorskip(package, reason="the bench extra is not installed")
from harness.loaders import engine_peers  # noqa: E402

SIDE, IMAGES, BATCH, WORKERS = 16, 24, 4, 2


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pictures of a grey level each, 10 apart."""
    monkeypatch.setattr(engine_peers, "kept", lambda told: tmp_path / "kept")
    for number in range(IMAGES):
        Image.fromarray(np.full((40, 60, 3), 10 * number, np.uint8)).save(tmp_path / f"{number:02}.png")
    return [str(tmp_path / f"{number:02}.png") for number in range(IMAGES)]


LOADERS = {"webdataset": engine_peers.webdataset_loader, "spdl": engine_peers.SpdlLoader}


@pytest.mark.parametrize("name", ["webdataset", "spdl"])
def test_every_view_of_images_that_were_asked_for(name: str, paths: list[str]) -> None:
    plain = hvs.recipes.ColorJitter(p=0)
    recipe = hvs.recipes.simsiam(candidates=3, size=SIDE).with_roles(jitter=plain, gray=0.0, blur=0.0)
    batches = list(LOADERS[name](paths, recipe, BATCH, WORKERS, 0))
    assert len(batches) == IMAGES // BATCH
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (recipe.mean, recipe.std))
    levels = []
    for views, labels in batches:
        assert len(views) == 3 and labels.tolist() == [-1] * BATCH
        assert all(view.shape == (BATCH, 3, SIDE, SIDE) and view.dtype == torch.float32 for view in views)
        level = (views[0] * std + mean) * 255
        # all views of an image come from it: crops and flips leave a flat picture as it is
        assert all(torch.allclose(view, views[0], atol=1e-4) for view in views)
        levels += [round(value) for value in level.mean((1, 2, 3)).tolist()]
    assert set(levels) <= set(range(0, 10 * IMAGES, 10))
    if name == "spdl":  # every file once; webdataset draws shards anew
        assert sorted(levels) == list(range(0, 10 * IMAGES, 10))


@pytest.mark.parametrize("name", ["webdataset", "spdl"])
def test_views_and_workers_draw_apart(name: str, tmp_path: Path, paths: list[str]) -> None:
    """All workers and threads with the same numbers would halve what is drawn."""
    file = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file)
    recipe = hvs.recipes.simsiam(candidates=2, size=SIDE)
    batches = list(LOADERS[name]([str(file)] * 16, recipe, BATCH, WORKERS, 0))
    views = torch.cat([view for given, _ in batches for view in given])
    assert len({view.numpy().tobytes() for view in views}) == len(views) == 32
