"""docs/monitoring.md: its code runs from top to bottom, and its table names every number."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import hvs_data as hvs
from example_scripts import write_photos
from hvs_data.monitoring.alarms import ENOUGH_IMAGES, FALLEN, PATIENCE
from hvs_data.monitoring.monitor import NAMES
from hvs_data.selection.geometry import ENOUGH_PAIRS
from small_simsiam import small_simsiam

GUIDE = (Path(__file__).parents[3] / "docs" / "monitoring.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names of the guide after its code, and what it logged."""
    root = tmp_path_factory.mktemp("guide")
    model, logged = small_simsiam(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def train_step(x1: Tensor, x2: Tensor) -> Tensor:
        optimizer.zero_grad()
        model(x1, x2).backward()
        optimizer.step()
        return model.encoder(x1)

    names: dict[str, Any] = {
        "hvs": hvs,
        "folder": write_photos(root / "photos", 24),
        "recipe": hvs.recipes.simsiam(candidates=3, size=16),
        "objective": hvs.objectives.SimSiam(model),
        "train_step": train_step,
        "log": lambda step, numbers: logged.append((step, numbers)),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for block in BLOCKS:
            exec(compile(block, "monitoring.md", "exec"), names)
    return {**names, "logged": logged, "root": root}


def test_every_loop_logs(ran: dict[str, Any]) -> None:
    assert len(BLOCKS) == 3 and [step for step, _ in ran["logged"]] == [0, 0]
    first, last = (numbers for _, numbers in ran["logged"])
    assert {"hvs/iou_chosen", "hvs/loss_gap", "hvs/output_std"} <= first.keys() and first.keys() == last.keys()
    with open(ran["root"] / "hardness.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file) if float(row["hvs/iou_chosen"]) > 0] == ["0", "1", "2"]


def test_the_table_names_every_number(ran: dict[str, Any]) -> None:
    table = GUIDE.partition("## The numbers")[2].partition("A number that is not known")[0]
    first_cells = " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("|"))
    assert re.findall(r"`(\w+)`", first_cells) == list(NAMES)


def test_the_limits_are_those_of_the_code() -> None:
    assert f"over {ENOUGH_IMAGES} images" in GUIDE and f"for {PATIENCE:,} steps" in GUIDE and FALLEN == 4 and "four times" in GUIDE
    assert f"before {ENOUGH_PAIRS} pairs" in GUIDE
    limits = hvs.Monitor()._alarms
    assert f"`min_iou={limits.min_iou}`" in GUIDE and f"`min_std={limits.min_std}`" in GUIDE


def test_the_picture_is_there_and_small() -> None:
    (name,) = re.findall(r"!\[.*?\]\((.*?)\)", GUIDE)
    assert 1000 < (Path(__file__).parents[3] / "docs" / name).stat().st_size < 60_000
