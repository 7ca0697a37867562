"""The bench of CUDA devices: what it says where there is none, and that its parts work, tried on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import gpu
import hvs_data as hvs
from harness.data.photos import photo_paths
from harness.loaders import gpu_peers
from harness.measuring.results import write_result
from harness.measuring.schema import ResultError

ROOT = Path(__file__).parents[2]
QUICK = gpu.Setup(size=28, images=4, batches=2, candidates=(2, 4), repeats=2, quick=True)


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
    ours = {(group, gpu.OURS) for group in groups} | {(group, gpu.ALONE) for group in resident}
    ours |= {("from files, n = 4", gpu.HARD), ("from resident uint8, n = 4", "torchvision v2")}
    assert ours <= made
    # what needs a GPU or is not installed is missed by name, with a reason
    assert ("operations of triton-augment, n = 4", "triton-augment") not in made
    assert written["not_run"]["operations of triton-augment, n = 4: triton-augment"]
    for target in written["targets"]:
        assert target["measured"] is None and target["reached"] is None
    assert "triton-augment" in gpu.report(result) and "QUICK" in gpu.report(result)
    with pytest.raises(ResultError, match="at least 5 repeats"):
        gpu.check_gpu_result({**result, "quick": False})


def test_the_bound_counts_each_crop_and_each_output_once() -> None:
    image = torch.zeros(100, 80, 3, dtype=torch.uint8)
    rows = hvs.sample_views(hvs.recipes.simsiam(2), seed=0, epoch=0, index=[0], height=[100], width=[80])
    rows = replace(rows, box=torch.tensor([[[0, 0, 50, 40], [3, 2, 20, 10]]], dtype=torch.int32))
    size = image.numel()  # bytes a second
    read, written = 3 * (50 * 40 + 20 * 10), 2 * 3 * 224**2 * 2
    assert gpu.views_bound(rows, 224, torch.bfloat16, size) == pytest.approx(size * 2 / (read + written))


def test_targets_are_judged_by_what_was_measured() -> None:
    bench = gpu.Bench(replace(QUICK, quick=False), torch.device("cpu"))
    group = "from resident uint8, n = 4"
    bench.measurements.append({"group": group, "name": gpu.OURS, "details": {"share_of_bound": 0.41}})
    bench.ratios.append({"group": group, "name": "hvs_data / kornia", "median": 49.0})
    bench.not_run["from files, n = 8: DALI"] = "not installed"
    by_target = {target["target"]: target for target in gpu.judged(bench)}
    assert by_target["40 % of the bytes-over-bandwidth bound"]["reached"] is True
    assert by_target["50 x Kornia eager"]["reached"] is False
    assert by_target["4 x DALI's own pipeline, n = 8"]["measured"] is None
    assert by_target["4 x DALI's own pipeline, n = 8"]["note"] == "not installed"


def test_a_group_that_nobody_can_do_is_noted_and_the_rest_goes_on() -> None:
    bench = gpu.Bench(QUICK, torch.device("cpu"))

    def broken() -> Callable[[], Any]:
        raise RuntimeError("no code for this device")

    bench.measure("views", {gpu.OURS: broken}, 1, "views")
    assert not bench.measurements and not bench.ratios
    assert bench.not_run == {f"views: {gpu.OURS}": "RuntimeError: no code for this device"}


@pytest.mark.parametrize(("needed", "tries"), [(2**20, 1), (2**25, 2), (2**40, 3)])
def test_the_devices_part_is_timed_once_all_of_it_is_queued_ahead(monkeypatch: pytest.MonkeyPatch, needed: int, tries: int) -> None:
    """With a stand-in for CUDA, whose device wakes up before the work is queued unless it sleeps for so many cycles."""
    slept: list[int] = []
    diary: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool):
            assert enable_timing

        def record(self) -> None:
            diary.append("record")

        def query(self) -> bool:
            return slept[-1] < needed

        def synchronize(self) -> None:
            diary.append("wait")

        def elapsed_time(self, end: Any) -> float:
            return 3.0  # milliseconds

    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: diary.append("idle"))
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: slept.append(cycles) or diary.append("sleep"))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    bench = gpu.Bench(QUICK, torch.device("cuda", 0))
    if needed > gpu.HEAD_STARTS[-1]:
        with pytest.raises(RuntimeError, match="to be queued within"):
            bench.device_seconds(lambda: diary.append("work"))
    else:
        assert bench.device_seconds(lambda: diary.append("work")) == pytest.approx(3e-3)
    assert slept == list(gpu.HEAD_STARTS[:tries])
    assert diary == ["idle", "sleep", "record", "work", "record", "wait"] * tries


# --- the peers ---------------------------------------------------------------------------------------------------------


def images() -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (height, width, 3), generator=draw, dtype=torch.uint8) for height, width in [(40, 60), (33, 31)]]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", ["kornia", "torchvision"])
def test_peers_give_as_many_views_of_the_recipe(name: str, interpolation: str) -> None:
    pytest.importorskip(name)
    recipe = replace(hvs.recipes.simsiam(3, size=16), interpolation=interpolation)
    torch.manual_seed(0)
    views = {"kornia": gpu_peers.kornia_views, "torchvision": gpu_peers.torchvision_views}[name](images(), recipe, torch.float32)()
    assert views.shape == (6, 3, 16, 16) and views.isfinite().all()
    # normalised: values of 0 and 1 lie within these bounds, which views of noise nearly reach
    low, high = -0.485 / 0.229 - 0.3, 0.594 / 0.225 + 0.3
    assert low < views.min() < 0 < views.max() < high
    # no two views alike
    assert len({tuple(view.flatten()[:50].tolist()) for view in views}) == 6


def test_the_recipe_without_randomness_is_the_same_views() -> None:
    """Whole images, resized and normalised: so close do the peers' conventions come to ours."""
    pytest.importorskip("torchvision")
    still = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0, "gray": 0.0, "blur": 0.0}
    recipe = hvs.recipes.simsiam(2, size=16)
    recipe = recipe.with_roles(**still, jitter=replace(recipe.roles[0].jitter, p=0.0))
    image = images()[0][:40, :40].contiguous()
    rows = hvs.sample_views(recipe, seed=0, epoch=0, index=[0], height=[40], width=[40])
    expected = hvs.render([image], rows)[0]
    views = gpu_peers.torchvision_views([image], recipe, torch.float32)()
    # rounded to 8 bits after each pass of the resize, whose weights have 15 bits or more
    assert (views - expected).abs().max() <= (1 / 255 + 2**-12) / 0.224


def test_dali_from_files(photo_folder: Path) -> None:
    pytest.importorskip("nvidia.dali")
    paths = [path for path in photo_paths(photo_folder) if path.endswith(".jpg")]
    loader = gpu_peers.DaliLoader(paths, hvs.recipes.simsiam(3, size=24), 2, 1, seed=0, device="cpu")
    batches = list(loader)
    assert len(batches) == len(loader) == len(paths) // 2
    for views, _ in batches:
        assert [tuple(view.shape) for view in views] == [(2, 3, 24, 24)] * 3 and views[0].dtype == torch.float16
        assert -3 < min(view.min() for view in views) < 0 < max(view.max() for view in views) < 3
