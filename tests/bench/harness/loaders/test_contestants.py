"""Loaders by name: each gives what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.data import photos
from harness.measuring.timing import run_epoch

for package in ("albumentations", "cv2"):
    pytest.importorskip(package, reason="the bench extra is not installed")
from harness.loaders import contestants  # noqa: E402


@pytest.mark.parametrize(
    "loader", ["hvs_data", "hvs_data-hard", "hvs_data-cheap", "hvs_data-scaled", "torchvision", "albumentations", "resident", "copied"]
)
def test_everyone_gives_as_many_images_and_views_as_asked(loader: str, photo_folder: Path) -> None:
    score_size = 16 if loader == "hvs_data-hard" else None
    contestant = contestants.Contestant(loader, candidates=4, size=32, batch_size=2, score_size=score_size)
    paths = photos.repeated(photos.photo_paths(photo_folder), 8)
    epoch = run_epoch(contestant.build(paths), contestant.shapes)
    assert epoch.images == 8 and len(epoch.waits) == 3
    # views drawn, handed out, and rendered before a loss chooses; side of the last
    drawn, given, rendered, side = {"hvs_data-hard": (6, 2, 4, 16), "hvs_data-cheap": (2, 2, 2, 32)}.get(loader, (4, 4, 4, 32))
    assert contestant.views_drawn == drawn
    assert len(contestant.shapes) == given
    assert contestant.batch_bytes == 2 * rendered * 3 * side**2 * 4


def test_a_resident_batch_is_the_same_memory_and_a_copied_one_is_not() -> None:
    for loader, distinct in (("resident", 1), ("copied", 3)):
        batches = list(contestants.Contestant(loader, size=8, batch_size=2).build(["photo"] * 6))
        assert len({views[0].data_ptr() for views, _ in batches}) == distinct


def test_an_objective_that_costs_nothing_tells_views_apart() -> None:
    objective = contestants.FewPixels()
    assert objective.encode(torch.rand(5, 3, 112, 112)).shape == (5, 3 * 4 * 4)
    outputs = objective.encode(torch.rand(6, 3, 112, 112)).unflatten(0, (2, 3))
    losses = objective.pair_losses(outputs)
    assert losses.shape == (2, 3, 3) and losses[0].unique().numel() > 3
