"""Pretraining runs: broken off and gone on with, queued, written down, summed up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import pretrain
from harness.pretraining import runs
from harness.pretraining.experiments import Experiment, Part
from harness.pretraining.strength import Strength
from harness.pretraining.training import COLUMNS


def options(classes: Path, folder: Path, *more: str) -> list[str]:
    small = ["--view", "16", "--width", "8", "--batch-size", "6", "--epochs", "2", "--precision", "float32", "--seeds", "0"]
    return ["--data", str(classes), *small, "--out", str(folder / "out"), "--work", str(folder / "work"), *more]


def lines(folder: Path) -> list[dict[str, Any]]:
    return runs.Runs(pretrain.results_file(folder / "out")).lines()


def test_the_queue_runs_what_is_missing(classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain.main(options(classes, tmp_path, "--arms", "untrained", "vanilla", "hardest")) == 0
    made = lines(tmp_path)
    assert [(line["arm"], line["steps"]) for line in made] == [("untrained", 0), ("vanilla", 12), ("hardest", 12)]
    assert all(line["conditions"]["sizes"]["trained_on"] == 36 for line in made)
    hardest = made[2]["history"]
    assert hardest["step"][-1] == 12 and all(None not in hardest["columns"][name] for name in COLUMNS)
    assert made[1]["history"]["columns"]["other_iou"] == [None] * 12
    assert "hardest (4 candidates)" in capsys.readouterr().out
    # nothing is left to do, until a cost is known
    assert pretrain.main(options(classes, tmp_path, "--arms", "untrained", "vanilla", "hardest")) == 0
    assert len(lines(tmp_path)) == 3
    run = runs.Run.of(made[2])
    spread = {"median": 1.5, "q1": 1.5, "q3": 1.5, "repeats": [1.5]}
    cost = {"kind": "cost", "comparison": run.comparison, "arm": "hardest", "selector": run.selector, **spread}
    runs.Runs(pretrain.results_file(tmp_path / "out")).add({**cost, "conditions": made[0]["conditions"]})
    assert pretrain.main(options(classes, tmp_path, "--arms", "untrained", "vanilla", "hardest")) == 0
    added = lines(tmp_path)[4:]
    assert [(line["arm"], line["match"], line["steps"]) for line in added] == [("hardest", "time", 8)]


def test_an_experiment_is_made_in_its_order_into_one_file_of_all_machines(
    classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gentle, strong = Strength(0.5, 0.5), Strength(0.2)
    parts = (Part((strong, gentle), ("vanilla",), (3,)), Part((gentle,), ("vanilla", "hardest"), (3,)))
    monkeypatch.setitem(pretrain.EXPERIMENTS, "tried", Experiment("Does it run?", "simclr", {"": 2.0}, parts))
    small = ["--view", "16", "--width", "8", "--batch-size", "6", "--precision", "float32", "--transfer", str(classes)]
    folders = ["--data", str(classes), "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    assert pretrain.main([*folders, *small, "--experiment", "tried"]) == 0
    made = runs.Runs(tmp_path / "out" / "experiments" / "tried.jsonl").lines()
    assert [(line["arm"], line["comparison"]["views"], line["seed"]) for line in made] == [
        ("vanilla", {"crop": 0.2}, 3),
        ("vanilla", {"crop": 0.5, "color": 0.5}, 3),
        ("hardest", {"crop": 0.5, "color": 0.5}, 3),
    ]
    for line in made:
        assert [int(step) for step in line["curve"]] == [3, 6] and line["steps"] == 12
        # the same images by another name: the same probes
        assert line["transfer"] == {classes.name: {"knn": line["knn"], "linear": line["linear"]}}
    assert "crops from 0.5, colours x 0.5" in made[1]["conditions"]["recipe"]


def test_a_cost_is_measured_beside_vanilla(classes: Path, tmp_path: Path) -> None:
    comparison = pretrain.comparison_of(
        pretrain.argparse.Namespace(
            method="simclr", view=16, width=8, batch_size=2, learning_rate=None, precision="float32", device="cpu", threads=1,
            data=str(classes), images=None, epochs=1.0, experiment=None, crop=None, color=None, transfer=[],
        )
    )  # fmt: skip
    file = runs.Runs(tmp_path / "pretrain.jsonl")
    pretrain.measure_cost(comparison, ["vanilla", "hardest"], file, steps=2, repeats=5)
    vanilla, hardest = file.lines()
    assert vanilla["repeats"] == [1.0] * 5 and len(hardest["repeats"]) == 5 and hardest["median"] > 0
    run = comparison.run("hardest", "time", 0)
    assert file.cost(run.comparison, "hardest", run.selector) == hardest["median"]
    assert file.cost(run.comparison, "hardest", "another") is None
    # how long the training is does not change what a step costs, the batch does
    assert file.cost({**run.comparison, "epochs": 7.0}, "hardest", run.selector) == hardest["median"]
    assert file.cost({**run.comparison, "precision": "bfloat16"}, "hardest", run.selector) is None
