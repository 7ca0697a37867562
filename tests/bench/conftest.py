"""The benchmarks are scripts, which find harness/ beside them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six smooth pictures of different sizes as JPEG files, one of them greyscale, and a PNG file."""
    folder = tmp_path_factory.mktemp("photos")
    for number, (height, width) in enumerate([(90, 120), (120, 90), (64, 64), (150, 100), (80, 200), (100, 100)]):
        y, x = np.mgrid[:height, :width]
        channels = [127 + 120 * np.sin((number + 1) * (x / width + c * y / height)) for c in (1, 2, 3)]
        picture = Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))
        (picture.convert("L") if number == 4 else picture).save(folder / f"{number}.jpg", quality=95)
    picture.save(folder / "6.png")
    return folder


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 24 pictures each, told apart by the direction of their stripes."""
    folder = tmp_path_factory.mktemp("classes")
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:40, :40]
    for label, across in enumerate((x, y)):
        (folder / str(label)).mkdir()
        for number in range(24):
            wave = 127 + 100 * np.sin(across / draw.uniform(1.5, 2.5) + draw.uniform(0, 6))
            Image.fromarray(np.stack([wave] * 3, axis=-1).astype(np.uint8)).save(folder / str(label) / f"{number}.jpg")
    return folder
