"""Runs summed up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.reporting import summary


def test_rows_hold_mean_spread_and_the_difference_seed_by_seed(line: Callable[..., dict[str, Any]]) -> None:
    its = [line("vanilla", 0, 0.20), line("vanilla", 1, 0.24), line("hardest", 0, 0.19), line("hardest", 1, 0.25), line("hardest", 2, 0.5)]
    its += [line("hardest", 0, 0.10, match="time"), line("untrained", 0, 0.05)]
    untrained, vanilla, hardest, timed = summary.rows(its, its[0]["comparison"])
    assert (untrained.arm, vanilla.arm, hardest.match, timed.match) == ("untrained", "vanilla", "epochs", "time")
    accuracy = vanilla.accuracy("knn")
    assert (accuracy.mean, accuracy.deviation, accuracy.count) == pytest.approx((22, np.std([20, 24], ddof=1), 2))
    gain = hardest.gain("knn")
    # seed 2 has no vanilla beside it
    assert gain is not None and (gain.mean, gain.deviation, gain.count) == pytest.approx((0, np.std([-1, 1], ddof=1), 2))
    assert hardest.accuracy("knn").count == 3
    assert vanilla.gain("knn") is None and timed.gain("linear").mean == pytest.approx(-5) and timed.gain("linear").deviation is None
    assert vanilla.late("selected_iou") == pytest.approx(0.4)
    text = summary.report(its)
    assert "−10.00" in text and "22.00 ± 2.83" in text


def test_arms_whose_settings_changed_are_rows_of_their_own(line: Callable[..., dict[str, Any]]) -> None:
    its = [line("cheap", 0, 0.2, selector="score_size=16"), line("cheap", 1, 0.3, selector="budget='cheap'")]
    assert [row.selector for row in summary.rows(its, its[0]["comparison"])] == ["score_size=16", "budget='cheap'"]
