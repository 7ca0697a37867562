"""Claims of the publication beside runs whose numbers are given."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from harness.pretraining.experiments import EXPERIMENTS
from harness.reporting.claims import NOTHING, claims, reached
from harness.reporting.experiments import settings

Run = Callable[..., dict[str, Any]]


def seen(*lines: dict[str, Any]) -> list[str]:
    (setting,) = settings(EXPERIMENTS["map"], lines)
    return [words for _, words in claims(setting)]


def with_overlaps(line: dict[str, Any], chosen: list[float], other: list[float]) -> dict[str, Any]:
    line["history"]["columns"] |= {"selected_iou": chosen, "other_iou": other}
    return line


def test_each_claim_has_what_was_seen(run: Run) -> None:
    hardest = run("hardest", 10, 0.56, transfer={"other": 0.42}, curve={"25": 0.40, "50": 0.52})
    hardest["steps"] = 100
    timed = {**run("hardest", 10, 0.47), "match": "time"}
    vanilla = run("vanilla", 10, 0.54, transfer={"other": 0.40})
    overlaps, linear, transfer, epochs, time = seen(vanilla, with_overlaps(hardest, [0.4, 0.2], [0.5, 0.5]), timed)
    assert overlaps == "crops from 0.6, colours x 0.5: 0.30 against 0.50, from 0.40 at the beginning to 0.20 at the end"
    assert linear.startswith("crops from 0.6, colours x 0.5: +2.00 (")
    assert "+2.00 other, k-NN, +1.00 other, linear probe" in transfer
    assert epochs == "crops from 0.6, colours x 0.5: after 0.75 of them"
    assert "−7.00 (" in time and "k-NN" in time


def test_without_runs_of_both_nothing_is_claimed(run: Run) -> None:
    assert seen(run("vanilla", 10, 0.5), run("hardest", 11, 0.6)) == [NOTHING] * 5


@pytest.mark.parametrize(
    ("accuracy", "share"), [(0.3, 0.25), (0.4, 0.25), (0.45, 0.375), (0.5, 0.5), (0.55, 0.75), (0.6, 1.0), (0.61, math.inf)]
)
def test_when_an_accuracy_is_reached(accuracy: float, share: float) -> None:
    line = {"steps": 8, "curve": {"2": 0.4, "4": 0.5}, "knn": 0.6}
    assert reached(line, accuracy) == pytest.approx(share)
