"""FFCV's loader gives the views of a recipe of crops and flips; where it is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("ffcv", reason="built by hand, see bench/loader_cpu.py")
from harness.loaders.contestants import OURS, Contestant  # noqa: E402


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pictures of one colour each, which crops and flips leave as they are."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    files = [tmp_path / f"{number}.png" for number in range(8)]
    for number, file in enumerate(files):
        Image.fromarray(np.full((40, 60, 3), (30 * number, 200 - 20 * number, 7 * number), np.uint8)).save(file)
    return [str(file) for file in files]


@pytest.mark.parametrize("loader", ["ffcv-raw", "ffcv-jpg"])
@pytest.mark.parametrize("views", [1, 3])
def test_its_views_are_ours(loader: str, views: int, paths: list[str]) -> None:
    def colours(name: str) -> torch.Tensor:
        contestant = Contestant(name, "crops", candidates=views, size=16, batch_size=4)
        batches = list(contestant.build(paths))
        assert len(batches) == 2
        for given, labels in batches:
            assert [tuple(view.shape[1:]) for view in given] == contestant.shapes and len(labels) == len(given[0]) == 4
            assert all(view.dtype == torch.float32 and torch.allclose(view, given[0], atol=0.02) for view in given)
        found = torch.cat([given[0][:, :, 8, 8] for given, _ in batches])
        return found[found[:, 0].argsort()]

    # JPEG at quality 90 moves a flat colour by a few of 255 levels, of a deviation of 58
    torch.testing.assert_close(colours(loader), colours(OURS), rtol=0, atol=0.1 if loader == "ffcv-jpg" else 1e-5)


def test_its_jitter_is_as_strong_as_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a grey picture brightness changes the level, uniformly by .6 to 1.4, and contrast and saturation change nothing."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    Image.fromarray(np.full((20, 20, 3), 100, np.uint8)).save(tmp_path / "grey.png")
    for loader in ("ffcv-raw", OURS):
        contestant = Contestant(loader, "jitter", candidates=4, size=8, batch_size=8)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (contestant.recipe.mean, contestant.recipe.std))
        batches = contestant.build([str(tmp_path / "grey.png")] * 64)
        levels = torch.cat([((view * std + mean) * 255).mean((1, 2, 3)) for views, _ in batches for view in views])
        assert len(levels) == 256 and 60 - 2 <= levels.min() < 80 and 120 < levels.max() <= 140 + 2  # two roundings to 8 bits
        assert abs(levels.mean() - 100) < 5 * (80 / 12**0.5) / 256**0.5 + 2
