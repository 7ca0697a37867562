"""Folders of small photographs, good and bad."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def jpeg(seed: int, height: int = 40, width: int = 56) -> bytes:
    """A JPEG file whose pixels differ from those of every other seed."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 photographs in two classes, of several sizes."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(22):
        folder = root / ("cat" if number < 9 else "dog")
        folder.mkdir(exist_ok=True)
        (folder / f"{number:02}.jpg").write_bytes(jpeg(number, 30 + number, 60 - number))
    return root
