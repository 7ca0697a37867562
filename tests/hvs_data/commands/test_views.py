"""``hvs-data views`` as it is called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hvs_data.commands.main import main
from hvs_data.commands.recipes import converted
from hvs_data.recipes import byol

TRANSFORMS = """
from torchvision.transforms import v2
from hvs_data.recipes import byol
one = v2.Compose([v2.RandomResizedCrop(32), v2.RandomHorizontalFlip(), v2.ToTensor()])
train = [one, one]
recipe = byol(2, 24)
odd = [v2.RandomAffine(9)]
"""


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "augmentations_of_a_test.py").write_text(TRANSFORMS)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.full((40, 50, 3), 90 * number, np.uint8)).save(folder / f"{number}.png")
    return folder


def test_a_preset_a_recipe_and_transforms_of_ones_own(photos: Path) -> None:
    pytest.importorskip("torchvision")
    for options, views in ((["--recipe", "byol", "--candidates", "4"], 4), (["--transforms", "augmentations_of_a_test:train"], 2)):
        assert main(["views", "photos", "--images", "2", "--report", "sheet.html", *options]) == 0
        assert Path("sheet.html").read_text().count("<img") == 2 * views
    assert converted("augmentations_of_a_test:recipe") == byol(2, 24)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("augmentations_of_a_test", "expected transforms as MODULE:OBJECT"),
        ("augmentations_of_a_test:other", "expected a module with this object, got 'augmentations_of_a_test:other'"),
        ("no_such_module:train", "No module named"),
        ("augmentations_of_a_test:odd", "RandomAffine"),
    ],
)
def test_what_is_no_recipe_is_told(name: str, words: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torchvision")
    assert main(["views", "photos", "--transforms", name]) == 2
    assert words in capsys.readouterr().err and not Path("views.html").exists()
