"""The tables of docs/objectives.md: every method has its rows, and costs what they say."""

from __future__ import annotations

import re
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import nn

import hvs_data as hvs
from distillers import DISTILLERS
from hvs_data import objectives
from trainers import SIDE, TRAINERS, make_candidates

PAGE = (Path(__file__).parents[2] / "docs" / "objectives.md").read_text()
FORMULAS, COSTS = PAGE.split("While scoring,")[0], re.search("<!-- costs -->(.*)<!-- end of costs -->", PAGE, re.DOTALL)[1]
ROWS = {cells[0].strip("` "): cells[1:] for line in COSTS.splitlines() if line.startswith("| `") for cells in [line.strip("|").split("|")]}
IMAGES = 5
NO_METHODS = {"AdditiveObjective", "EarlyFeatures", "Objective", "reducible"}
# Of the small trainers of other tests, those whose every network has one convolution.
COUNTED = {
    "SimSiam": "SimSiam",
    "SimCLR": "SimCLR",
    "DCL": "DCL",
    "NNCLR": "NNCLR",
    "TiCo": "TiCo",
    "BYOL": "BYOL",
    "MoCoV2": "MoCo v2",
    "MoCoV3": "MoCo v3",
    "SwAV": "SwAV",
    "VICReg": "VICReg",
    "BarlowTwins": "Barlow Twins",
    "DINO": "DINO",
    "IBOT": "iBOT",
    "DINOv2": "DINOv2",
    "MSN": "MSN",
}


def forwards(formula: str, **values: float) -> float:
    """The number that a cell such as "8 F + 3 l f" stands for."""
    total = 0.0
    for term in formula.split("(")[0].split("+"):
        product = 1.0
        for factor in term.split():
            product *= values[factor] if factor.isalpha() else float(factor)
        total += product
    return total


def test_every_method_has_a_row_in_both_tables():
    methods = set(objectives.__all__) - NO_METHODS
    assert set(ROWS) == methods
    assert set(re.findall(r"^\| `(\w+)`", FORMULAS, re.MULTILINE)) == methods


@pytest.mark.parametrize("method", ROWS)
def test_a_step_with_scoring_costs_the_sum(method):
    step, scoring, together, equal_to, _ = ROWS[method]
    number = {"F": 1.0, "f": 0.18, "V": 8 if "four views" in step else 4, "L": 16, "l": 8}
    ratio = 1 + forwards(scoring, **number) / forwards(step, **number)
    assert together.strip() == f"{ratio:.2f} x" and len(equal_to.strip()) > 10


@pytest.mark.parametrize("method", COUNTED)
def test_scoring_costs_the_forwards_that_are_told(method):
    trainer = (TRAINERS | DISTILLERS)[COUNTED[method]]()
    if "params" not in trainer.select:
        trainer.loss(make_candidates(2, seed=1))  # queues and covariances are there after a first step
    rows = trainer.select.get("params")
    sides = [SIDE] * 4 if rows is None else list(rows.size)
    candidates = [torch.randn(IMAGES, 3, side, side) for side in sides]
    seen: list[int] = []
    forward = nn.Conv2d.forward

    def counting(layer: nn.Conv2d, pixels: torch.Tensor) -> torch.Tensor:
        seen.extend([pixels.shape[-1]] * len(pixels))
        return forward(layer, pixels)

    with mock.patch.object(nn.Conv2d, "forward", counting):
        hvs.HardViewSelector(trainer.objective)(candidates, **trainer.select)
    number = {"V": sides.count(SIDE), "L": len(sides) - sides.count(SIDE), "F": 1, "f": 1}
    whole = ROWS[method][1]
    assert seen.count(SIDE) == IMAGES * forwards(whole, **number | {"f": 0})
    assert len(seen) == IMAGES * forwards(whole, **number)
