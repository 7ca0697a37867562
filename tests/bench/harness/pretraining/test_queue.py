"""Runs are made once, and a block of an experiment in one precision."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.data.images import Split
from harness.pretraining import arms, queue
from harness.pretraining.comparison import SIZES, Comparison
from harness.pretraining.experiments import Experiment, Part
from harness.pretraining.queue import claimed
from harness.pretraining.runs import Run, Runs
from harness.pretraining.strength import Strength
from harness.pretraining.training import Setup


def claim(path: Path, answers: Any) -> None:
    with claimed(path) as mine:
        answers.put(mine)


def test_what_one_process_does_no_other_does(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    for held, expected in ((True, False), (False, True)):
        with claimed(tmp_path / "work" / "run.lock") as mine:
            assert mine
            if held:
                _in_a_process(context, tmp_path, answers)
        if not held:
            _in_a_process(context, tmp_path, answers)
        assert answers.get() is expected


def _in_a_process(context: Any, folder: Path, answers: Any) -> None:
    process = context.Process(target=claim, args=(folder / "work" / "run.lock", answers))
    process.start()
    process.join()


GENTLE, STRONG = Strength(0.5, 0.5), Strength(0.2)
EXPERIMENT = Experiment("Which runs are made?", "simclr", {"": 2.0}, (Part((STRONG, GENTLE), ("vanilla", "hardest"), (3, 4)),))


def test_a_block_that_was_begun_in_another_precision_is_left_out(
    line: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    split = Split(range(36), range(12), 2)  # type: ignore[arg-type]
    comparison = Comparison(Setup("simclr", SIZES["simclr"], "float32"), split, "photos", 2.0, arms.arms_of("simclr"))

    def begun(strength: Strength, seed: int, **changes: Any) -> dict[str, Any]:
        return {**line("vanilla", seed, 0.5), "comparison": {**comparison.under(strength).as_json(), **changes}}

    runs = Runs(tmp_path / "tried.jsonl")
    runs.add(begun(STRONG, 3, precision="bfloat16"))
    runs.add(begun(GENTLE, 3))
    # of other data or another length, and so of other blocks
    runs.add(begun(GENTLE, 4, precision="bfloat16", epochs=9.0))
    runs.add(begun(GENTLE, 4, precision="bfloat16", data="paintings"))

    def trained(its: Comparison, run: Run, steps: int, checkpoint: Path) -> dict[str, Any]:
        return {**line(run.arm, run.seed, 0.5, selector=run.selector), "comparison": run.comparison}

    monkeypatch.setattr(queue, "trained", trained)
    queue.work_through_experiment(EXPERIMENT, comparison, runs, tmp_path / "work")
    made = [(its["seed"], its["comparison"]["views"]["crop"], its["arm"]) for its in runs.lines()[4:]]
    assert made == [(3, 0.5, "hardest"), (4, 0.2, "vanilla"), (4, 0.2, "hardest"), (4, 0.5, "vanilla"), (4, 0.5, "hardest")]
    assert {its["comparison"]["precision"] for its in runs.lines()[4:]} == {"float32"}
    (said,) = [its for its in capsys.readouterr().err.splitlines() if "left out" in its]
    assert said.startswith("seed 3, crops from 0.2: left out") and "bfloat16" in said
    # a machine of the other precision makes the rest, and nothing else
    other = replace(comparison, setup=replace(comparison.setup, precision="bfloat16"))
    queue.work_through_experiment(EXPERIMENT, other, runs, tmp_path / "work")
    made = [(its["seed"], its["comparison"]["views"]["crop"], its["arm"]) for its in runs.lines()[9:]]
    assert made == [(3, 0.2, "hardest")]
    assert len([its for its in capsys.readouterr().err.splitlines() if "left out" in its]) == 3
