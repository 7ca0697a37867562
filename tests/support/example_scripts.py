"""Runs of the scripts in docs/examples, in this process, on generated photos."""

from __future__ import annotations

import io
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import nn

import hvs_data as hvs

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def write_photos(root: Path, count: int, side: int = 48) -> Path:
    """JPEG files of smooth colours in two folders, each unlike every other."""
    for number in range(count):
        draw = np.random.default_rng(number)
        coarse = draw.integers(0, 256, (4, 5, 3)).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((side + number % 7, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        folder = root / ("left" if number % 2 else "right")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:03}.jpg").write_bytes(buffer.getvalue())
    return root


@contextmanager
def recorded_losses() -> Iterator[list[float]]:
    """The values of all tensors whose backward is called."""
    losses: list[float] = []
    backward = torch.Tensor.backward

    def recording(self: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        losses.append(float(self.detach()))
        return backward(self, *arguments, **options)

    with mock.patch.object(torch.Tensor, "backward", recording):
        yield losses


class SmallResNet(nn.Module):
    """Two layers in place of torchvision's ``resnet18``: its number of features, its parts as children, the last one ``fc``."""

    def __init__(self, num_classes: int = 1000, **options: Any):
        super().__init__()
        convolutions = [nn.Conv2d(3, 32, 5, 2), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 512, 3, 2), nn.BatchNorm2d(512), nn.ReLU()]
        self.layers = nn.Sequential(*convolutions)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, num_classes)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.fc(self.avgpool(self.layers(pixels)).flatten(1))


def run_script(script: str, *arguments: Any, seed: int = 0, small: bool = True) -> tuple[list[float], list[hvs.Selection]]:
    """Losses of every step of a script of docs/examples, and the selections that it trained on, from the same seed each time.

    Args:
        script: its name.
        arguments: of its command line.
        seed: of torch's generator, at its beginning.
        small: a net of two layers stands where the script imports torchvision's ResNet-18.
    """
    selections: list[hvs.Selection] = []
    selected = hvs.HardViewLoader._selected

    def noting(self: hvs.HardViewLoader, *given: Any) -> hvs.Batch:
        batch = selected(self, *given)
        selections.append(batch.selection)
        return batch

    torch.manual_seed(seed)
    with (
        recorded_losses() as losses,
        mock.patch.object(sys, "argv", [script, *map(str, arguments)]),
        mock.patch("torchvision.models.resnet18", SmallResNet) if small else nullcontext(),
        mock.patch.object(hvs.HardViewLoader, "_selected", noting),
    ):
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    return losses, selections


def falls(losses: list[float]) -> bool:
    """Whether losses are finite and, in the mean, lower in the last third of the steps than in the first."""
    third = len(losses) // 3
    return bool(np.isfinite(losses).all()) and np.mean(losses[-third:]) < np.mean(losses[:third])
