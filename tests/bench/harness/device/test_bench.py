"""How work on a CUDA device is timed, with a stand-in for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from harness.device.bench import ALONE, HEAD_STARTS, OURS, QUICK, Bench


def test_who_cannot_run_is_noted_and_the_others_are_compared_with_both_of_ours() -> None:
    def broken() -> Callable[[], Any]:
        raise RuntimeError("no code for this device in /opt/secret/place")

    makers: dict[str, Callable[[], Callable[[], Any]]] = {name: lambda: list for name in (OURS, ALONE, "other")}
    found = list(Bench(QUICK, torch.device("cpu")).measure("views", {**makers, "broken": broken}, 8, "views", 1e9, {"other": "rounds"}))
    assert [its for its in found if its["what"] == "not run"] == [
        {"what": "not run", "group": "views", "name": "broken", "reason": "RuntimeError: no code for this device in"}
    ]
    speeds = {its["name"]: its for its in found if its["what"] == "measurement"}
    assert set(speeds) == {OURS, ALONE, "other"} and speeds["other"]["differs"] == "rounds" and speeds[OURS]["unit"] == "views/s"
    for its in speeds.values():
        assert len(its["repeats"]) == QUICK.repeats and its["share_of_bound"] == its["median"] / 1e9
    ratios = {its["name"]: its for its in found if its["what"] == "ratio"}
    assert set(ratios) == {f"{OURS} / other", f"{ALONE} / other"}
    assert ratios[f"{OURS} / other"]["repeats"] == pytest.approx(
        [mine / other for mine, other in zip(speeds[OURS]["repeats"], speeds["other"]["repeats"], strict=True)]
    )


def test_whose_time_cannot_be_taken_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def waits(function: Callable[[], Any]) -> float:
        raise RuntimeError("the host waits")

    bench = Bench(QUICK, torch.device("cpu"))
    monkeypatch.setattr(bench, "device_seconds", waits)
    missed, speed = bench.measure("views", {ALONE: lambda: list, OURS: lambda: list}, 1, "views")
    assert (missed["what"], missed["name"], missed["reason"]) == ("not run", ALONE, "RuntimeError: the host waits")
    assert (speed["what"], speed["name"]) == ("measurement", OURS)


def test_where_nobody_can_run_nothing_is_timed() -> None:
    def broken() -> Callable[[], Any]:
        raise RuntimeError("no code")

    assert [its["what"] for its in Bench(QUICK, torch.device("cpu")).measure("views", {OURS: broken}, 1, "views")] == ["not run"]


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
    bench = Bench(QUICK, torch.device("cuda", 0))
    if needed > HEAD_STARTS[-1]:
        with pytest.raises(RuntimeError, match="to be queued within"):
            bench.device_seconds(lambda: diary.append("work"))
    else:
        assert bench.device_seconds(lambda: diary.append("work")) == pytest.approx(3e-3)
    assert slept == list(HEAD_STARTS[:tries])
    assert diary == ["idle", "sleep", "record", "work", "record", "wait"] * tries
