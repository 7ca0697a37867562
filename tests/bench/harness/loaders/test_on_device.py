"""How work on a CUDA device is timed, with a stand-in for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import hvs_data as hvs
from harness.loaders import on_device

QUICK = on_device.Setup(size=28, images=4, batches=2, candidates=(2, 4), repeats=2, quick=True)


def test_the_bound_counts_each_crop_and_each_output_once() -> None:
    image = torch.zeros(100, 80, 3, dtype=torch.uint8)
    rows = hvs.sample_views(hvs.recipes.simsiam(2), seed=0, epoch=0, index=[0], height=[100], width=[80])
    rows = replace(rows, box=torch.tensor([[[0, 0, 50, 40], [3, 2, 20, 10]]], dtype=torch.int32))
    size = image.numel()  # bytes a second
    read, written = 3 * (50 * 40 + 20 * 10), 2 * 3 * 224**2 * 2
    assert on_device.views_bound(rows, 224, torch.bfloat16, size) == pytest.approx(size * 2 / (read + written))


def test_a_group_that_nobody_can_do_is_noted_and_the_rest_goes_on() -> None:
    bench = on_device.Bench(QUICK, torch.device("cpu"))

    def broken() -> Callable[[], Any]:
        raise RuntimeError("no code for this device")

    bench.measure("views", {on_device.OURS: broken}, 1, "views")
    assert not bench.measurements and not bench.ratios
    assert bench.not_run == {f"views: {on_device.OURS}": "RuntimeError: no code for this device"}


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
    bench = on_device.Bench(QUICK, torch.device("cuda", 0))
    if needed > on_device.HEAD_STARTS[-1]:
        with pytest.raises(RuntimeError, match="to be queued within"):
            bench.device_seconds(lambda: diary.append("work"))
    else:
        assert bench.device_seconds(lambda: diary.append("work")) == pytest.approx(3e-3)
    assert slept == list(on_device.HEAD_STARTS[:tries])
    assert diary == ["idle", "sleep", "record", "work", "record", "wait"] * tries
