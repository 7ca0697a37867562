"""docs/replacing_a_dataloader.md: its code runs from top to bottom, and does what it says."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import hvs_data as hvs
from hvs_data.integrations.transforms import official_parts, torchvision_parts

GUIDE = (Path(__file__).parents[3] / "docs" / "replacing_a_dataloader.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


class SmallSimSiam(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.projector = nn.Linear(8, 8)
        self.predictor = nn.Linear(8, 8)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names of the guide after its code, and what train_step saw: sizes of the views of each step."""
    root = tmp_path_factory.mktemp("guide")
    draw = np.random.default_rng(0)
    for number in range(18):
        folder = root / "photos" / "train" / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(draw.integers(0, 256, (6, 8, 3)).astype(np.uint8))
        coarse.resize((64, 48), Image.Resampling.BILINEAR).save(folder / f"{number:02}.jpg")
    model = SmallSimSiam()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    steps: list[tuple[int, ...]] = []

    def train_step(model: SmallSimSiam, *views: torch.Tensor) -> None:
        z = [model.projector(model.encoder(view)) for view in views]
        loss = -sum(F.cosine_similarity(model.predictor(z[i]), z[1 - i].detach()).mean() for i in range(2)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps.append(tuple(views[0].shape))

    names: dict[str, Any] = {"model": model, "train_step": train_step}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for block in BLOCKS:
            exec(compile(block, "replacing_a_dataloader.md", "exec"), names)
        names["last"] = next(iter(names["loader"]))  # of the extra stage
    return {**names, "steps": steps}


def test_every_loop_trains(ran: dict[str, Any]) -> None:
    # three loops of 18 images in batches of 8
    assert ran["steps"] == [(8, 3, 32, 32)] * 6


def test_the_recipe_is_simsiams(ran: dict[str, Any]) -> None:
    expected = hvs.recipes.simsiam(4, size=32)
    assert (ran["recipe"].roles, ran["recipe"].spec) == (expected.roles, expected.spec)


def test_the_error_names_the_places_that_the_guide_names(ran: dict[str, Any]) -> None:
    assert ran["places"] == ["transforms[0].Compose[1]", "transforms[0].Compose[2]"]
    assert all(place in GUIDE for place in ran["places"])


def test_the_extra_stage_ran(ran: dict[str, Any]) -> None:
    assert len(ran["last"].views) == 4 and ran["views"].recipe is ran["recipe"]
    again = next(iter(hvs.ViewLoader(ran["loader"].dataset, ran["recipe"], batch_size=8, extra_stage=ran["loader"]._plan.engine._stage)))
    assert all(torch.equal(one, other) for one, other in zip(ran["last"].views, again.views, strict=True))
    flips = hvs.uniform(again.params.key.flatten(), 1) < 0.5
    assert 0 < flips.sum() < flips.numel()


def test_the_errors_remedy_works(ran: dict[str, Any], tmp_path: Path) -> None:
    """A part that recipe_from refuses, passed as the message says."""
    Image.fromarray(np.full((48, 64, 3), 200, np.uint8)).save(tmp_path / "light.png")  # both leave black where they were
    with pytest.raises(hvs.RecipeError, match=r"pass it as ViewLoader\(extra_stage=\.\.\.\)"):
        hvs.recipe_from([ran["turned"], ran["turned"]])
    for part in (ran["rotation"], ran["transforms"].RandomErasing(p=1)):
        loader = hvs.ViewLoader(str(tmp_path), ran["recipe"], batch_size=1, normalize=False, extra_stage=part)
        plain = hvs.ViewLoader(str(tmp_path), ran["recipe"], batch_size=1, normalize=False)
        views, before = next(iter(loader)).views, next(iter(plain)).views
        assert not all(torch.equal(view, old) for view, old in zip(views, before, strict=True))


def test_every_known_part_is_in_the_table() -> None:
    table = GUIDE.partition("## What `recipe_from` knows")[2].partition("## What it refuses")[0]
    for names in (*torchvision_parts.READERS.values(), *(official.names for official in official_parts._OFFICIAL)):
        for name in names:
            assert f"`{name}" in table, name


def test_arguments_of_the_table_exist() -> None:
    accepted = inspect.signature(hvs.ViewLoader).parameters
    for name in (
        "source",
        "recipe",
        "batch_size",
        "shuffle",
        "num_threads",
        "prefetch",
        "device",
        "format",
        "drop_last",
        "timeout",
        "seed",
    ):
        assert name in accepted and f"`{name}" in GUIDE.replace('`device="cuda"`', "`device`")
