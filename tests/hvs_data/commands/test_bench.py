"""``hvs-data bench`` as it is called."""

from __future__ import annotations

import re
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


def test_tells_speed_what_limits_it_and_how_many_cores_it_takes(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (0.1, 3.0, 3.0))
    options = ["--seconds", "0.01", "--candidates", "2", "4", "--threads", "1", "2", "--images", "100"]
    assert main(["bench", str(photos), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = [line.split() for line in lines[2:4]]
    assert [row[0] for row in table] == ["1", "2"] and all(float(cell.replace(",", "")) > 0 for row in table for cell in row[1:])
    assert lines[4].startswith("an image of 4 views takes of one thread: read ")
    assert lines[5].startswith("what limits is ") and lines[6].startswith("memory: ")
    assert lines[7].startswith("a training that takes 100 images a second needs so many cores like these: ")
    assert re.search(r": \d+ at 2 views, \d+ at 4 views$", lines[7])


def test_cores_are_rounded_up_and_a_busy_machine_is_told_of(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (1.26, 0.0, 0.0))
    monkeypatch.setattr("hvs_data.checking.speed.images_per_second", lambda make, seconds: 600 / make().recipe.num_views)
    assert main(["bench", str(photos), "--candidates", "2", "4", "--threads", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "other programs kept about 1.3 CPUs busy in the last minute: speeds come out low"
    # 300 and 150 images a second of two threads
    assert lines[-1] == "a training that takes 1,000 images a second needs so many cores like these: 7 at 2 views, 14 at 4 views"


def test_presets_are_known_by_name(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe_of("moco_v2") == moco_v2()
    save(moco_v2(4, 32), photos / "mine.toml")
    assert recipe_of(str(photos / "mine.toml")) == moco_v2(4, 32)
    assert main(["bench", str(photos), "--recipe", "Recipe"]) == 2
    assert "expected a recipe among barlow_twins, byol, dino" in capsys.readouterr().err
