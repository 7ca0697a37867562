"""Pretraining runs: broken off and gone on with, queued, written down, summed up."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hvs_data as hvs
import pretrain
from harness.data import images
from harness.measuring.schema import ResultError
from harness.pretraining import probes, runs
from harness.pretraining.experiments import Experiment, Part
from harness.pretraining.strength import Strength
from harness.pretraining.training import COLUMNS, History, Training, schedule
from harness.reporting import summary


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 24 pictures each, told apart by the direction of their stripes."""
    folder = tmp_path_factory.mktemp("classes")
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:40, :40]
    for label, across in enumerate((x, y)):
        (folder / str(label)).mkdir()
        for number in range(24):
            wave = 127 + 100 * np.sin(across / draw.uniform(1.5, 2.5) + draw.uniform(0, 6))
            Image.fromarray(np.stack([wave] * 3, axis=-1).astype(np.uint8)).save(folder / str(label) / f"{number}.jpg")
    return folder


def options(classes: Path, folder: Path, *more: str) -> list[str]:
    small = ["--view", "16", "--width", "8", "--batch-size", "6", "--epochs", "2", "--precision", "float32", "--seeds", "0"]
    return ["--data", str(classes), *small, "--out", str(folder / "out"), "--work", str(folder / "work"), *more]


def lines(folder: Path) -> list[dict[str, Any]]:
    return runs.Runs(pretrain.results_file(folder / "out")).lines()


@pytest.mark.parametrize("method", ["simsiam", "simclr", "dino"])
@pytest.mark.parametrize("arm", ["random", "jointcrop"])
def test_a_training_that_is_broken_off_goes_on_as_if_it_had_not_been(method: str, arm: str, classes: Path, tmp_path: Path) -> None:
    arm = arm if arm in pretrain.arms.arms_of(method) else "hardest"
    torch.set_num_threads(1)
    sizes = pretrain.SIZES[method]
    setup = pretrain.Setup(method, pretrain.replace(sizes, view=16, width=8, batch=6))
    split = images.open_split(str(classes))

    def training() -> Training:
        return Training(setup, pretrain.arms.ARMS[arm], split.train, steps=9, seed=1)

    whole = training()
    assert list(whole.run()) == list(range(1, 10))
    first = training()
    for step in first.run():
        if step == 4:
            break
    first.save(tmp_path / "saved.pt")
    second = training()
    second.load(tmp_path / "saved.pt")
    assert list(second.run()) == list(range(5, 10))
    assert second.columns.keys() == whole.columns.keys()
    for name in COLUMNS:
        np.testing.assert_array_equal(second.columns[name], whole.columns[name])
    for mine, its in zip(second.method.model.state_dict().values(), whole.method.model.state_dict().values(), strict=True):
        assert torch.equal(mine, its)


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


def claim(path: Path, answers: Any) -> None:
    with pretrain.claimed(path) as mine:
        answers.put(mine)


def test_what_one_process_does_no_other_does(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    for held, expected in ((True, False), (False, True)):
        with pretrain.claimed(tmp_path / "work" / "run.lock") as mine:
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


def line(arm: str, seed: int, knn: float, match: str = "epochs", selector: str = "none") -> dict[str, Any]:
    comparison = {
        "method": "simclr",
        "precision": "float32",
        "sizes": {"view": 32.0, "width": 16.0, "batch": 64.0},
        "views": {},
        "epochs": 2.0,
    }
    history = {"step": [1, 2, 3, 4], "columns": {name: [None, 0.1, 0.2, 0.4] for name in COLUMNS}}
    conditions = pretrain.results.conditions(
        data={"photos": {"images": 9, "median_megapixels": 0.1, "median_kilobytes": 2.0}},
        sizes={"view": 32}, recipe="simclr", seeds=[seed], repeats=1, settings={"precision": "float32"},
    )  # fmt: skip
    made = {"kind": "run", "comparison": {**comparison, "data": "photos", "images": 9}, "arm": arm, "about": arm}
    made |= {
        "selector": selector,
        "match": match,
        "seed": seed,
        "steps": 4,
        "seconds": 1.0,
        "knn": knn,
        "linear": knn / 2,
        "curve": {},
        "transfer": {},
        "history": history,
    }
    return {**made, "conditions": conditions}


def test_rows_hold_mean_spread_and_the_difference_seed_by_seed() -> None:
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


def test_arms_whose_settings_changed_are_rows_of_their_own() -> None:
    its = [line("cheap", 0, 0.2, selector="score_size=16"), line("cheap", 1, 0.3, selector="budget='cheap'")]
    assert [row.selector for row in summary.rows(its, its[0]["comparison"])] == ["score_size=16", "budget='cheap'"]


def test_an_incomplete_line_is_neither_written_nor_read(tmp_path: Path) -> None:
    file = runs.Runs(tmp_path / "pretrain.jsonl")
    file.add(line("vanilla", 0, 0.2))
    for wrong in ({"knn": None}, {"match": "luck"}, {"kind": "guess"}):
        with pytest.raises(ResultError):
            file.add({**line("vanilla", 1, 0.2), **wrong})
    assert len(file.lines()) == 1
    with file.path.open("a") as opened:
        opened.write(json.dumps({"kind": "run"}) + "\n")
    with pytest.raises(ResultError, match="line 2"):
        file.lines()


def test_committed_experiments_are_complete_and_of_their_plan() -> None:
    paths = sorted((pretrain.results.RESULTS / "experiments").glob("*.jsonl"))
    assert {path.stem for path in paths} <= set(pretrain.EXPERIMENTS) and paths
    for path in paths:
        planned = {(seed, arm, str(its.as_json())) for part in pretrain.EXPERIMENTS[path.stem].parts for seed, its, arm in part.runs()}
        lines = runs.Runs(path).lines()
        assert {(its["seed"], its["arm"], str(its["comparison"]["views"])) for its in lines} <= planned
        assert len({runs.Run.of(its).key for its in lines}) == len(lines)


def test_the_learning_rate_rises_and_falls_to_nothing() -> None:
    rates = [schedule(step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(1 / 5) and rates[4] == rates[5] == 1 and rates[100] == pytest.approx(0)
    assert all(later < earlier for earlier, later in zip(rates[5:], rates[6:], strict=False))


def test_a_history_is_the_mean_of_stretches() -> None:
    columns = {"loss": [1.0, 2.0, 3.0, 4.0, 5.0], "other_iou": [float("nan")] * 3 + [1.0, 2.0]}
    assert History.of(columns, bins=2) == History([2, 5], {"loss": [1.5, 4.0], "other_iou": [None, 1.5]})
    assert History.of({"loss": [3.0]}, bins=4) == History([1], {"loss": [3.0]})


def test_probes_tell_classes_apart_where_features_do() -> None:
    draw = np.random.default_rng(0)
    label = np.arange(200) % 4
    apart = np.eye(4, dtype=np.float32)[label] + 0.1 * draw.standard_normal((200, 4)).astype(np.float32)
    fitted, held_out = (apart[:120], label[:120]), (apart[120:], label[120:])
    assert probes.nearest_neighbours(fitted, held_out) == probes.linear(fitted, held_out) == 1
    noise = draw.standard_normal((200, 4)).astype(np.float32)
    fitted, held_out = (noise[:120], label[:120]), (noise[120:], label[120:])
    # a quarter, with a deviation of sqrt(.25 * .75 / 80) = .048
    assert abs(probes.nearest_neighbours(fitted, held_out) - 0.25) < 5 * 0.048 > abs(probes.linear(fitted, held_out) - 0.25)


def test_a_quarter_of_each_class_is_held_out_always_the_same(classes: Path) -> None:
    split = images.open_split(str(classes))
    assert (len(split.train), len(split.test), split.classes) == (36, 12, 2)
    again = images.open_split(str(classes))
    assert split.test.fingerprint == again.test.fingerprint
    names = {split.test.name_of(place) for place in range(12)} & {split.train.name_of(place) for place in range(36)}
    assert names == set()
    few = images.open_split(str(classes), most=20)
    assert len(few.train) + len(few.test) == 20 and len(few.test) in (4, 5)  # a quarter of each class, rounded down
    with pytest.raises(SystemExit, match="labelled"):
        images.open_split(str(classes / "0"))


def test_a_loss_that_is_not_finite_ends_a_training(classes: Path) -> None:
    setup = pretrain.Setup("simsiam", pretrain.replace(pretrain.SIZES["simsiam"], view=16, width=8, batch=6, learning_rate=1e30))
    training = Training(setup, pretrain.arms.ARMS["vanilla"], images.open_split(str(classes)).train, steps=20, seed=0)
    with pytest.raises(hvs.HvsError, match="finite"):
        list(training.run())
