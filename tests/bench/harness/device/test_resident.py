"""The bound that the memory's speed sets, and what lies beside what, tried on the CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import hvs_data as hvs
from harness.device import resident
from harness.device.bench import ALONE, OURS
from harness.device.resident import CANDIDATES, DRAWN, REFERENCE, views_bound


def test_the_bound_counts_each_crop_and_each_output_once() -> None:
    image = torch.zeros(100, 80, 3, dtype=torch.uint8)
    rows = hvs.sample_views(hvs.recipes.simsiam(2), seed=0, epoch=0, index=[0], height=[100], width=[80])
    rows = replace(rows, box=torch.tensor([[[0, 0, 50, 40], [3, 2, 20, 10]]], dtype=torch.int32))
    size = image.numel()  # bytes a second
    read, written = 3 * (50 * 40 + 20 * 10), 2 * 3 * 224**2 * 2
    assert views_bound(rows, 224, torch.bfloat16, size) == pytest.approx(size * 2 / (read + written))


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda module: module)


def test_groups_hold_ours_and_whoever_is_installed(photo_folder: Path, no_compiler: None) -> None:
    found = list(resident.beside_libraries(str(photo_folder), "cpu", quick=True))
    found += resident.beside_slow_ones(str(photo_folder), "cpu", quick=True)
    assert found[0]["what"] == "bandwidth" and found[0]["bytes_per_second"] > 0
    made = {(its["group"], its["name"]) for its in found if its["what"] == "measurement"}
    whole = [resident.group_of(candidates) for candidates in CANDIDATES]
    slow = f"{whole[0]}, beside {REFERENCE}"
    expected = {(group, name) for group in (*whole, slow) for name in (OURS, ALONE, DRAWN)} | {(slow, REFERENCE)}
    expected |= {(group, "torchvision v2") for group in whole} | {("operations of triton-augment, n = 4", OURS)}
    assert expected <= made
    # what needs a GPU is missed by name, with a reason
    missed = {(its["group"], its["name"]): its["reason"] for its in found if its["what"] == "not run"}
    assert missed[("operations of triton-augment, n = 4", "triton-augment")]
    # the group that targets name comes first, since time may end after it
    assert next(its["group"] for its in found if its["what"] == "measurement") == whole[0] == "from resident uint8, n = 4"
