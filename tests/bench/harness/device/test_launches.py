"""Times by kernel: from a profile that is made up, and of every recipe on the CPU, where there are no kernels."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.autograd import DeviceType

from harness.device import launches
from harness.device.bench import ALONE, OURS, QUICK, Bench


def event(name: str, microseconds: float, device: DeviceType = DeviceType.CUDA) -> SimpleNamespace:
    return SimpleNamespace(name=name, device_type=device, time_range=SimpleNamespace(elapsed_us=lambda: microseconds))


def test_launches_and_seconds_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    class Profile:
        def __init__(self, activities: list[Any]):
            assert activities == [torch.profiler.ProfilerActivity.CUDA]

        def __enter__(self) -> Profile:
            return self

        def __exit__(self, *error: Any) -> None:
            assert len(calls) == 2

        def events(self) -> list[SimpleNamespace]:
            return [
                event("taps", 3),
                event("taps", 5),
                event("blur", 40),
                event("blur", 60),
                event("taps", 8),
                event("cudaLaunch", 900, DeviceType.CPU),
            ]

    monkeypatch.setattr(torch.profiler, "profile", Profile)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    found = launches.by_kernel(lambda: calls.append(1), Bench(QUICK, torch.device("cuda", 0)), calls=2)
    assert list(found) == ["blur", "taps"]
    assert found["blur"] == (1.0, pytest.approx(50e-6)) and found["taps"] == (1.5, pytest.approx(8e-6))


def test_every_recipe_and_form_on_the_cpu(photo_folder: Path) -> None:
    bandwidth, *found = launches.kernel_times(str(photo_folder), "cpu", quick=True)
    assert bandwidth["what"] == "bandwidth"
    views = {"simsiam": 16, "dino, views of 28": 8, "dino, views of 12": 32, "simsiam, bfloat16, channels-last": 16}
    assert {its["name"]: its["views"] for its in found if its["what"] == "kernels"} == views
    assert all(its["kernels"] == [] and its["bound"] > 0 for its in found if its["what"] == "kernels")
    speeds = {(its["group"], its["name"]) for its in found if its["what"] == "measurement" and its["share_of_bound"] > 0}
    assert speeds == {(name, part) for name in views for part in (OURS, ALONE)}


def test_a_profiler_that_does_not_work_takes_no_other_time_with_it(photo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(function: Any, bench: Bench) -> Any:
        raise RuntimeError("no counters for you")

    monkeypatch.setattr(launches, "by_kernel", broken)
    found = list(launches.kernel_times(str(photo_folder), "cpu", quick=True))
    missed = [its for its in found if its["what"] == "not run"]
    assert len(missed) == 4 and missed[0]["reason"] == "RuntimeError: no counters for you"
    assert sum(its["what"] == "measurement" for its in found) == 8


def test_a_full_run_has_more_recipes() -> None:
    assert set(launches.recipes(224, quick=False)) == {"simsiam", "simclr", "byol", "dino", "dinov2"}
    assert [role.size for role in launches.recipes(224, quick=False)["dino"].roles] == [224, 224, 96]
