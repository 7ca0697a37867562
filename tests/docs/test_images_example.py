"""The example of docs/images.md: scans of 16 bits and bands of satellites, from files to trained steps."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hvs_data as hvs
from example_scripts import EXAMPLES, falls, run_script

sys.path.insert(0, str(EXAMPLES / "support"))
import deep_images  # noqa: E402

SETS: dict[str, Any] = {"png": (deep_images.write_scans, "scans", 1), "npy": (deep_images.write_bands, "bands.tar", 13)}


@pytest.mark.parametrize("extension", SETS)
def test_it_trains_on_the_hardest_pairs(extension: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if extension == "png":
        pytest.importorskip("imagecodecs")
    write, name, channels = SETS[extension]
    write(tmp_path / name, 32)
    arguments = ["--image", extension, "--size", 24, 32, "--epochs", 6, "--batch-size", 16, "--lr", 0.1]
    losses, selections = run_script("images/simsiam.py", tmp_path / name, *arguments, small=False)
    assert len(losses) == 12 and falls(losses) and f"{channels} channels" in capsys.readouterr().out
    assert all(selection.scored and selection.losses.isfinite().any() for selection in selections)


def test_the_scans_keep_their_levels(tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs")
    deep_images.write_scans(tmp_path, 1)
    (pixels,) = hvs.decode([(tmp_path / "000.png").read_bytes()], channels=1, deep=True)
    assert pixels.dtype.itemsize == 2 and len(np.unique(pixels)) > 512
