"""What the page of evidence tells of the experiments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.pretraining.experiments import EXPERIMENTS
from harness.pretraining.strength import Strength
from harness.reporting import evidence
from harness.reporting.experiments import settings

Run = Callable[..., dict[str, Any]]
USUAL = Strength(0.2, 1.0)


def told(*lines: dict[str, Any]) -> str:
    """The part, in one line a paragraph."""
    return evidence.experiments_part({"map": settings(EXPERIMENTS["map"], lines), "long": []}).replace("\n", " ")


def test_counts_what_is_there_and_what_is_to_come(run: Run) -> None:
    text = told(run("vanilla", 10, 0.50), run("hardest", 10, 0.52))
    planned = {(*its, part.match) for part in EXPERIMENTS["map"].parts for its in part.runs()}
    hardest = sum((arm, match) == ("hardest", "epochs") for *_, arm, match in planned)
    assert f"2 of {len(planned)} runs" in text and f"{hardest - 1} of hardest" in text
    assert "Every gain here is of a single seed and means little" in text
    assert EXPERIMENTS["map"].question in text
    assert f"Without runs so far: *{EXPERIMENTS['long'].question}*" in text
    assert "each was run under one strength" in text and "Best against best" not in text


def test_says_how_far_gains_differ_between_seeds(run: Run) -> None:
    gains = {"hardest": (0.02, 0.05, 0.01), "random": (0.00, 0.03)}
    lines = [run("vanilla", seed, 0.5) for seed in range(3)]
    lines += [run(arm, seed, 0.5 + gain) for arm, its in gains.items() for seed, gain in enumerate(its)]
    lines += [run("vanilla", 0, 0.5, USUAL), run("hardest", 0, 0.9, USUAL)]
    pooled = np.sqrt(sum(np.var(its, ddof=1) * (len(its) - 1) for its in gains.values()) / 3)
    text = told(*lines)
    assert "1 of 3 gains is of a single seed, which means little." in text
    assert f"From seed to seed a gain differs by {100 * pooled:.2f} points of k-NN" in text


def test_only_decided_gains_are_bold(run: Run) -> None:
    lines = [run("vanilla", 10, 0.50), run("vanilla", 11, 0.50), run("hardest", 10, 0.55), run("hardest", 11, 0.552)]
    lines += [run("random", 10, 0.505), run("random", 11, 0.495), run("tempered", 10, 0.6)]
    text = told(*lines)
    assert "| 2 | **+5.10 ± 0.10 (0.71)** | **+5.10 ± 0.10 (0.70)** |" in text
    assert "| 2 | +0.00 ± 0.50 (0.71) |" in text.replace("−0.00", "+0.00") and "| 1 | +10.00 (0.70) |" in text


def test_best_against_best_names_the_views_of_both(run: Run) -> None:
    lines = [run("vanilla", 10, 0.50), run("vanilla", 10, 0.54, USUAL), run("hardest", 10, 0.56), run("hardest", 10, 0.52, USUAL)]
    text = told(*lines)
    assert "against vanilla under its own, crops from 0.2, colours x 1 (2 of 8 tried)" in text
    assert "| hardest | crops from 0.6, colours x 0.5 | 2 of 8 | 1 | +2.00 (0.70) |" in text


def test_a_transfer_of_fewer_seeds_says_so(run: Run) -> None:
    lines = [run("vanilla", 10, 0.5, transfer={"flowers": 0.3}), run("hardest", 10, 0.5, transfer={"flowers": 0.4})]
    assert "| +10.00, seeds: 1 | +5.00, seeds: 1 |" in told(*lines, run("vanilla", 11, 0.5), run("hardest", 11, 0.5))


def test_an_arm_that_ran_in_vanillas_time_alone_is_explained_once(run: Run) -> None:
    timed = {**run("random", 10, 0.5), "match": "time", "about": "two of four"}
    text = told(run("vanilla", 10, 0.5), timed, {**timed, "seed": 11})
    assert text.count("*random*, two of four") == 1 and "as many steps as take the time that vanilla's take" in text


def test_runs_without_a_pair_are_told_of_without_tables(run: Run) -> None:
    text = told(run("hardest", 10, 0.5))
    assert "No arm has a run of the same seed as vanilla" in text and "|" not in text and "map_curves.svg" not in text


def test_the_part_is_put_between_the_marks() -> None:
    page = f"before\n{evidence.BEGIN}old\n{evidence.END}after\n"
    once = evidence.replaced(page, "new\n")
    assert once == f"before\n{evidence.BEGIN}\nnew\n\n{evidence.END}after\n" and evidence.replaced(once, "new\n") == once
    with pytest.raises(ValueError, match="expected the lines"):
        evidence.replaced("before\n", "new\n")
