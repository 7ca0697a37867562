"""The project's targets for a device, judged by what was measured, and the tables."""

from __future__ import annotations

from typing import Any

from harness.device import bench
from harness.measuring.staged import DONE, FAILED, Outcome
from harness.reporting.device import ALONE, OURS, RESIDENT, judged, report


def speed(name: str, share: float | None, group: str = RESIDENT) -> dict[str, Any]:
    return {"what": "measurement", "group": group, "name": name, "median": 5e6, "unit": "views/s", "share_of_bound": share}


def times(name: str, median: float, group: str = RESIDENT) -> dict[str, Any]:
    return {"what": "ratio", "group": group, "name": name, "median": median}


FINDINGS = [
    speed(OURS, 0.2),
    speed(ALONE, 0.41),
    times(f"{OURS} / kornia", 30.0),
    times(f"{ALONE} / kornia", 49.0),
    times(f"{OURS} / DALI", 2.5, "from files, n = 4"),
    {"what": "not run", "group": "operations of triton-augment, n = 4", "name": "triton-augment", "reason": "not installed"},
]


def test_the_names_are_those_of_the_bench() -> None:
    # tables do without what the bench needs
    assert (OURS, ALONE) == (bench.OURS, bench.ALONE)


def test_the_devices_part_is_judged_and_whole_calls_are_told_beside_it() -> None:
    by_target = {its["target"]: its for its in judged(FINDINGS)}
    bound = by_target["40 % of the bytes-over-bandwidth bound"]
    assert (bound["measured"], bound["whole calls"], bound["reached"]) == (0.41, 0.2, True)
    kornia = by_target["50 x Kornia eager"]
    assert (kornia["measured"], kornia["whole calls"], kornia["reached"]) == (49.0, 30.0, False)
    # from files there is nothing but whole loaders
    dali = by_target["2 x DALI's own pipeline, n = 4"]
    assert (dali["measured"], dali["whole calls"], dali["reached"]) == (2.5, 2.5, True)


def test_what_was_not_measured_is_not_judged() -> None:
    by_target = {its["target"]: its for its in judged(FINDINGS)}
    for target, note in {"3 x triton-augment on its operations": "not installed", "4 x DALI's own pipeline, n = 8": "not measured"}.items():
        assert by_target[target]["measured"] is by_target[target]["reached"] is None and by_target[target]["note"] == note
    assert {(its["measured"], its["note"]) for its in judged(FINDINGS, quick=True)} == {(None, "a rehearsal")}


def test_the_report_names_every_stage_kernel_and_loss() -> None:
    kernel = {"name": "resize_and_color", "launches": 1.0, "nanoseconds": 476.0}
    kernels = {"what": "kernels", "name": "simsiam", "views": 512, "bound": 136.0, "kernels": [kernel]}
    steps = {"what": "steps", "name": "exact", "cost": {"median": 1.25}, "seconds": {"exact": {"wait": 0.01, "select": 0.02, "train": 0.1}}}
    outcomes = {
        "kernels": Outcome(DONE, 31.0, "", [kernels]),
        "resident": Outcome(FAILED, 12.0, "RuntimeError: no luck", FINDINGS),
        "steps": Outcome(None, 0.0, "", [steps]),
    }
    text = report(outcomes, quick=False)
    for words in (
        "resize_and_color",
        "failed: RuntimeError: no luck",
        "begun, without an end",
        "not reached",
        "1.25",
        "not run: operations of",
    ):
        assert words in text
    assert "REHEARSAL" not in text and "REHEARSAL" in report(outcomes, quick=True)
    # 476 ns are 3.5 times the bound of 136
    assert next(line for line in text.splitlines() if "resize_and_color" in line).split() == [
        "simsiam",
        "resize_and_color",
        "1.00",
        "476",
        "3.50",
    ]
