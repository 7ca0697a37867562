"""``hvs-data views`` as it is called."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hvs_data import render, sample_views
from hvs_data.commands.main import main
from hvs_data.commands.recipes import converted
from hvs_data.recipes import byol, simsiam
from hvs_data.types import ImageBatch, ViewParams

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


OBJECTIVE = """
import torch
import hvs_data as hvs

class Brightness(hvs.Objective):
    def __init__(self, scale=1.0):
        self.scale = scale

    def encode(self, pixels):
        return self.scale * pixels.mean((2, 3))

    def pair_losses(self, outputs):
        return torch.cdist(outputs, outputs)

objective = Brightness()
selector = hvs.HardViewSelector(Brightness(), policy="easiest")

def made(state):
    return Brightness(state["scale"])

nothing = 3
"""


def test_the_hardest_views_are_marked(photos: Path) -> None:
    Path("training_of_a_test.py").write_text(OBJECTIVE)
    torch.save({"scale": torch.tensor(2.0)}, "state.pt")
    found = {}
    for name, options in (("objective", []), ("selector", []), ("made", ["--checkpoint", "state.pt"])):
        marks = ["--objective", f"training_of_a_test:{name}", *options]
        assert main(["views", "photos", "--images", "3", "--candidates", "4", *marks, "--report", f"{name}.html"]) == 0
        page = Path(f"{name}.html").read_text()
        assert page.count("class=chosen") == 3 * 2 and page.count("chosen: ") == 3
        found[name] = re.findall(r"chosen: (.), (.), loss ([0-9.e-]+)", page)
    # the pair of each image as the objective has it
    rows = [sample_views(simsiam(4), seed=0, epoch=0, index=[number], height=[40], width=[50]) for number in range(3)]
    images = ImageBatch([np.asarray(Image.open(path)) for path in sorted(photos.iterdir())])
    means = render(images, ViewParams.concatenate(rows)).mean((3, 4))
    distance_BVV = torch.cdist(means, means)
    for place, (first, second, loss) in enumerate(found["objective"]):
        assert float(loss) == pytest.approx(float(distance_BVV[place].max()), rel=5e-3)
        assert float(distance_BVV[place][ord(first) - 65, ord(second) - 65]) == pytest.approx(float(loss), rel=5e-3)
    assert [pair[:2] for pair in found["made"]] == [pair[:2] for pair in found["objective"]] != [pair[:2] for pair in found["selector"]]
    assert float(found["made"][0][2]) == pytest.approx(2 * float(found["objective"][0][2]), rel=1e-2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--checkpoint", "state.pt"], "--checkpoint goes with --objective"),
        (["--objective", "training_of_a_test:nothing"], "a function that returns one, got int"),
        (["--objective", "training_of_a_test:objective", "--checkpoint", "state.pt"], "to be a function of the checkpoint"),
        (["--objective", "training_of_a_test:made", "--checkpoint", "missing.pt"], "expected a file of torch.save in missing.pt"),
    ],
)
def test_what_is_no_objective_is_told(options: list[str], words: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("training_of_a_test.py").write_text(OBJECTIVE)
    assert main(["views", "photos", *options]) == 2
    assert words in capsys.readouterr().err and not Path("views.html").exists()


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
