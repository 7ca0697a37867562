"""The bench of CUDA devices: what it says where there is none, and that its parts work, tried on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import gpu
from harness.data.photos import photo_paths
from harness.loaders.on_device import ALONE, HARD, OURS, Bench, Setup
from harness.measuring.results import write_result
from harness.measuring.schema import ResultError

ROOT = Path(__file__).parents[2]
QUICK = Setup(size=28, images=4, batches=2, candidates=(2, 4), repeats=2, quick=True)


def test_without_a_device_it_says_so_and_writes_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "bench" / "gpu.py"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 0 and done.stdout.strip() == gpu.NO_DEVICE
    assert not list(tmp_path.iterdir())


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda module: module)


def test_a_result_is_complete_and_says_what_was_not_run(photo_folder: Path, tmp_path: Path, no_compiler: None) -> None:
    result = gpu.run(QUICK, torch.device("cpu"), "photos", photo_paths(photo_folder))
    gpu.check_gpu_result(result)
    written = json.loads(write_result(result, tmp_path, gpu.check_gpu_result).read_text())
    groups = {entry["group"] for entry in written["measurements"]}
    resident = {f"from resident uint8, n = {candidates}" for candidates in (2, 4)}
    assert groups == {*resident, "operations of triton-augment, n = 4", "from files, n = 2", "from files, n = 4"}
    made = {(entry["group"], entry["name"]) for entry in written["measurements"]}
    ours = {(group, OURS) for group in groups} | {(group, ALONE) for group in resident}
    ours |= {("from files, n = 4", HARD), ("from resident uint8, n = 4", "torchvision v2")}
    assert ours <= made
    # what needs a GPU or is not installed is missed by name, with a reason
    assert ("operations of triton-augment, n = 4", "triton-augment") not in made
    assert written["not_run"]["operations of triton-augment, n = 4: triton-augment"]
    for target in written["targets"]:
        assert target["measured"] is None and target["reached"] is None
    assert "triton-augment" in gpu.report(result) and "QUICK" in gpu.report(result)
    with pytest.raises(ResultError, match="at least 5 repeats"):
        gpu.check_gpu_result({**result, "quick": False})


def test_targets_are_judged_by_what_was_measured() -> None:
    bench = Bench(replace(QUICK, quick=False), torch.device("cpu"))
    group = "from resident uint8, n = 4"
    bench.measurements.append({"group": group, "name": OURS, "details": {"share_of_bound": 0.41}})
    bench.ratios.append({"group": group, "name": "hvs_data / kornia", "median": 49.0})
    bench.not_run["from files, n = 8: DALI"] = "not installed"
    by_target = {target["target"]: target for target in gpu.judged(bench)}
    assert by_target["40 % of the bytes-over-bandwidth bound"]["reached"] is True
    assert by_target["50 x Kornia eager"]["reached"] is False
    assert by_target["4 x DALI's own pipeline, n = 8"]["measured"] is None
    assert by_target["4 x DALI's own pipeline, n = 8"]["note"] == "not installed"
