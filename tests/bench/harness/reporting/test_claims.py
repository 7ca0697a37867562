"""Claims of the publication beside runs whose numbers are given."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from harness.pretraining.experiments import EXPERIMENTS
from harness.reporting.claims import claims, claims_table, reached
from harness.reporting.experiments import settings

Run = Callable[..., dict[str, Any]]


def seen(*lines: dict[str, Any]) -> list[list[str]]:
    """What was seen, a row a strength."""
    (setting,) = settings(EXPERIMENTS["map"], lines)
    header, published, *rows = claims_table(setting)
    assert len(header) == len(published) == len(claims(setting)) + 1
    return rows


def with_overlaps(line: dict[str, Any], chosen: list[float], other: list[float]) -> dict[str, Any]:
    line["history"]["columns"] |= {"selected_iou": chosen, "other_iou": other}
    return line


def test_each_claim_has_what_was_seen(run: Run) -> None:
    hardest = run("hardest", 10, 0.56, transfer={"other": 0.42}, curve={"25": 0.40, "50": 0.52})
    hardest["steps"] = 100
    timed = {**run("hardest", 10, 0.47), "match": "time"}
    vanilla = run("vanilla", 10, 0.54, transfer={"other": 0.40})
    ((views, overlap, course, linear, transfer, epochs, time),) = seen(vanilla, with_overlaps(hardest, [0.4, 0.2], [0.5, 0.5]), timed)
    assert views == "crops from 0.6, colours x 0.5"
    assert overlap == "0.30 against 0.50"
    assert course == "0.40 to 0.20"
    assert linear.startswith("+2.00 (")
    assert transfer == "+2.00 other, k-NN, +1.00 other, linear probe"
    assert epochs == "0.75"
    assert time.startswith("−7.00 (") and "k-NN" in time


def test_an_accuracy_that_is_never_reached(run: Run) -> None:
    ((*_, epochs, _),) = seen(run("vanilla", 10, 0.6), run("hardest", 10, 0.5))
    assert epochs == "not reached in 1 of 1 seeds"


def test_without_runs_of_both_nothing_is_claimed(run: Run) -> None:
    assert seen(run("vanilla", 10, 0.5), run("hardest", 11, 0.6)) == []


@pytest.mark.parametrize(
    ("accuracy", "share"), [(0.3, 0.25), (0.4, 0.25), (0.45, 0.375), (0.5, 0.5), (0.55, 0.75), (0.6, 1.0), (0.61, math.inf)]
)
def test_when_an_accuracy_is_reached(accuracy: float, share: float) -> None:
    line = {"steps": 8, "curve": {"2": 0.4, "4": 0.5}, "knn": 0.6}
    assert reached(line, accuracy) == pytest.approx(share)
