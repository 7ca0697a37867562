"""``hvs-data bench`` as it is called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hvs_data.commands.main import main
from hvs_data.commands.recipes import recipe_of
from hvs_data.recipes import moco_v2, save


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(16):
        Image.fromarray(np.full((40, 50, 3), 15 * number, np.uint8)).save(tmp_path / f"{number}.png")
    return tmp_path


def test_tells_speed_what_limits_it_and_how_many_cores_it_takes(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--seconds", "0.01", "--candidates", "2", "4", "--threads", "1", "2", "--images", "100"]
    assert main(["bench", str(photos), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = [line.split() for line in lines[2:4]]
    assert [row[0] for row in table] == ["1", "2"] and all(float(cell.replace(",", "")) > 0 for row in table for cell in row[1:])
    assert lines[4].startswith("an image of 4 views takes of one thread: read ")
    assert lines[5].startswith("what limits is ") and lines[6].startswith("memory: ")
    assert lines[7].startswith("100 images a second with 4 views take about ")


def test_presets_are_known_by_name(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe_of("moco_v2") == moco_v2()
    save(moco_v2(4, 32), photos / "mine.toml")
    assert recipe_of(str(photos / "mine.toml")) == moco_v2(4, 32)
    assert main(["bench", str(photos), "--recipe", "Recipe"]) == 2
    assert "expected a recipe among barlow_twins, byol, dino" in capsys.readouterr().err
