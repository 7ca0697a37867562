"""Small photographs to pretrain on, and a run of the demo over them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hvs_data.demo.records import Outcome
from hvs_data.demo.settings import Settings

CLASSES = {"green & <ripe>": (40, 170, 60), "red": (190, 40, 40)}
# far more time than the steps need, even where the renderer is compiled first
TINY = Settings(seconds=3600, max_steps=4, size=24, score_size=16, batch_size=8)


def jpeg(seed: int, color: tuple[int, int, int], height: int, width: int) -> bytes:
    """A JPEG file of smooth spots around a colour; every seed gives other spots."""
    draw = np.random.default_rng(seed)
    coarse = np.clip(np.array(color) + draw.integers(-40, 40, (5, 6, 3)), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def write_photos(folder: Path, number: int, color: tuple[int, int, int] = (120, 120, 120), first_seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first_seed, first_seed + number):
        (folder / f"{seed:02}.jpg").write_bytes(jpeg(seed, color, 48 + seed, 70 - seed))
    return folder


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 photos in two classes that differ by colour."""
    root = tmp_path_factory.mktemp("labelled")
    for number, (name, color) in enumerate(CLASSES.items()):
        write_photos(root / name, 12, color, first_seed=12 * number)
    return root


@pytest.fixture(scope="session")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """11 photos without labels."""
    return write_photos(tmp_path_factory.mktemp("flat") / "pictures", 11)


@pytest.fixture(scope="session")
def finished(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, str]:
    """A whole run over labelled photos: its outcome and its report."""
    from hvs_data.demo.run import run  # it needs a decoder, which a machine may miss: --bare skips the tests then, but not this file

    report = tmp_path_factory.mktemp("report") / "report.html"
    outcome = run(TINY, report, labelled)
    return outcome, report.read_text(encoding="utf-8")
