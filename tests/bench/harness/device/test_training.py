"""Scoring and training steps, tried on the CPU with a tiny network."""

from __future__ import annotations

from pathlib import Path

from harness.device import training


def test_scoring_as_it_is_and_compiled(photo_folder: Path) -> None:
    found = list(training.scoring(str(photo_folder), "cpu", quick=True))
    assert [(its["what"], its["name"]) for its in found] == [
        ("measurement", training.PLAIN), ("measurement", "compiled"), ("ratio", f"{training.PLAIN} / compiled")
    ]  # fmt: skip


def test_steps_beside_vanilla_ones(photo_folder: Path) -> None:
    found = list(training.steps(str(photo_folder), "cpu", quick=True))
    (its,) = found
    assert its["name"] == training.SETTINGS[0] and len(its["cost"]["repeats"]) == training.QUICK.repeats
    assert set(its["seconds"]) == {"vanilla", its["name"]}
    assert its["seconds"]["vanilla"]["select"] == 0 < its["seconds"][its["name"]]["select"]


def test_a_full_run_times_whole_rounds_of_the_prefilter() -> None:
    # the cheap budget scores in every eighth step
    assert training.AMOUNTS.timed % 8 == 0 and training.AMOUNTS.repeats >= 5
    assert training._sizes(quick=False).published
