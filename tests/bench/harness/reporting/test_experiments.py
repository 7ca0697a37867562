"""Gains over vanilla, their errors, and what is missing of an experiment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from harness.pretraining import runs
from harness.pretraining.experiments import EXPERIMENTS
from harness.pretraining.strength import Strength
from harness.reporting.experiments import KNN, LINEAR, Gain, Measure, Setting, settings
from harness.reporting.summary import MeanAndSpread

Run = Callable[..., dict[str, Any]]
MAP = EXPERIMENTS["map"]
MILD, USUAL = Strength(0.6, 0.5), Strength(0.2, 1.0)


def only(lines: list[dict[str, Any]]) -> Setting:
    (setting,) = settings(MAP, lines)
    return setting


def test_a_gain_is_the_mean_difference_of_seeds_that_both_have(run: Run) -> None:
    vanilla, hardest = np.array([0.50, 0.53, 0.51]), np.array([0.54, 0.52, 0.56])
    lines = [run("vanilla", seed, its) for seed, its in zip((10, 11, 12), vanilla, strict=True)]
    lines += [run("hardest", seed, its) for seed, its in zip((12, 11, 10), hardest[::-1], strict=True)]
    lines += [run("hardest", 13, 0.9), run("vanilla", 14, 0.1), run("hardest", 14, 0.9, USUAL)]
    gain = only(lines).gain(MILD, "hardest", KNN)
    differences = 100 * (hardest - vanilla)
    assert gain is not None and gain.spread.count == 3
    assert gain.mean == pytest.approx(differences.mean())
    assert gain.error == pytest.approx(differences.std(ddof=1) / np.sqrt(3))
    assert only(lines).gain(USUAL, "hardest", KNN) is None


def test_the_error_of_the_test_set_is_that_of_two_binomials(run: Run) -> None:
    gain = only([run("vanilla", 10, 0.2), run("hardest", 10, 0.6)]).gain(MILD, "hardest", KNN)
    draw = np.random.default_rng(0)
    drawn = (draw.binomial(10000, 0.6, 40000) - draw.binomial(10000, 0.2, 40000)) / 100
    # a standard deviation of n draws has a relative error of 1 / sqrt(2 n); five of them
    assert gain is not None and gain.test_error == pytest.approx(drawn.std(), rel=5 / np.sqrt(80000))


def test_the_error_of_the_test_set_is_that_of_paired_images_where_they_are_known(run: Run) -> None:
    draw = np.random.default_rng(0)
    difficulty = draw.random(10000)
    lines, gains = [], []
    for seed in (10, 11):
        vanilla, hardest = ({"knn": draw.random(10000) < level - 0.3 * difficulty} for level in (0.7, 0.75))
        gains.append(hardest["knn"].astype(int) - vanilla["knn"])
        for arm, right in (("vanilla", vanilla), ("hardest", hardest)):
            packed = {"right": {"knn": runs.packed(torch.from_numpy(right["knn"]))}}
            lines.append({**run(arm, seed, right["knn"].mean()), **packed})
    gain = only(lines).gain(MILD, "hardest", KNN)
    assert gain is not None and gain.test_error is not None
    assert gain.mean == pytest.approx(100 * np.mean(gains))
    assert gain.test_error == pytest.approx(100 * np.mean(gains, axis=0).std(ddof=1) / 100)
    older = only([*lines, run("vanilla", 12, 0.6), run("hardest", 12, 0.65)]).gain(MILD, "hardest", KNN)
    assert older is not None and (older.spread.count, older.test_error) == (3, gain.test_error)
    # the same images for both, and two seeds: less than as if every run had images of its own
    assert gain.test_error < 0.8 * only([{**line, "right": {}} for line in lines]).gain(MILD, "hardest", KNN).test_error


def test_one_seed_has_no_error_and_decides_nothing(run: Run) -> None:
    gain = only([run("vanilla", 10, 0.2), run("hardest", 10, 0.6)]).gain(MILD, "hardest", LINEAR)
    assert gain is not None and gain.error is None and not gain.decided
    assert gain.text() == f"+40.00 ({gain.test_error:.2f})"


@pytest.mark.parametrize(
    ("differences", "test_error", "decided"),
    [
        ((1.9, 2.1), 0.7, True),
        ((-1.9, -2.1), 0.7, True),
        ((1.2, 1.3), 0.7, False),  # seeds agree, within two errors of the test set
        ((0.2, 3.8), 0.7, False),  # seeds do not
        ((1.9, 2.1), None, False),
        ((2.0,), 0.7, False),
    ],
)
def test_a_gain_is_decided_beyond_two_errors_of_both_kinds(differences: tuple[float, ...], test_error: float | None, decided: bool) -> None:
    assert Gain(MeanAndSpread.of(differences), test_error).decided is decided


def test_seeds_of_both_precisions_count_and_no_difference_is_taken_between_them(run: Run) -> None:
    lines = [run("vanilla", 10, 0.50), run("hardest", 10, 0.52)]
    lines += [run("vanilla", 11, 0.40, precision="bfloat16"), run("hardest", 11, 0.46, precision="bfloat16")]
    # begun in both precisions: the one with more runs counts
    lines += [run("vanilla", 12, 0.50, precision="bfloat16"), run("hardest", 12, 0.51, precision="bfloat16"), run("vanilla", 12, 0.1)]
    # in another precision than all others under its strength
    lines += [run("vanilla", 10, 0.3, USUAL, precision="bfloat16"), run("hardest", 10, 0.4, USUAL, precision="bfloat16")]
    setting = only(lines)
    gain, usual = (setting.gain(strength, "hardest", KNN) for strength in (MILD, USUAL))
    assert gain is not None and (gain.mean, gain.spread.count) == (pytest.approx(3), 3)
    assert usual is not None and usual.mean == pytest.approx(10)


def test_planned_runs_are_counted_once_and_what_is_there_of_them(run: Run) -> None:
    planned = {(*its, part.match) for part in MAP.parts for its in part.runs()}
    lines = [run("vanilla", 10, 0.5), run("hardest", 10, 0.5), run("random", 10, 0.5, USUAL), run("hardest", 77, 0.5)]
    setting = only(lines)
    assert (setting.planned(), setting.done()) == (len(planned), 3)
    assert setting.planned("random") == sum(arm == "random" for *_, arm, _ in planned) and setting.done("random") == 1
    assert setting.count == f"3 of {len(planned)} runs and 1 outside the plan"
    names = {arm + ", in vanilla's time" if match == "time" else arm for *_, arm, match in planned}
    assert set(setting.arms) == names - {"vanilla"}
    assert set(setting.strengths) == {strength for _, strength, *_ in planned}


def test_runs_in_vanillas_time_are_an_arm_of_their_own(run: Run) -> None:
    lines = [run("vanilla", 10, 0.50), run("hardest", 10, 0.55), {**run("hardest", 10, 0.52), "match": "time"}]
    gains = {arm: only(lines).gain(MILD, arm, KNN) for _, arm in only(lines).pairs}
    assert {arm: round(gain.mean, 6) for arm, gain in gains.items() if gain} == {"hardest": 5, "hardest, in vanilla's time": 2}


def test_an_arm_whose_settings_have_changed_is_another_one(run: Run) -> None:
    lines = [run("vanilla", 10, 0.50), run("hardest", 10, 0.60), run("hardest", 10, 0.55, selector="3 candidates")]
    setting = only(lines)
    gains = {arm: setting.gain(MILD, arm, KNN) for strength, arm in setting.pairs}
    assert {arm: round(gain.mean, 6) for arm, gain in gains.items() if gain} == {"hardest": 10, "hardest (3 candidates)": 5}
    assert setting.done() == 2


def test_runs_of_other_lengths_are_a_setting_of_their_own_outside_the_plan(run: Run) -> None:
    longer = [run("vanilla", 10, 0.7, epochs=50.0), run("hardest", 10, 0.6, epochs=50.0), run("hardest", 11, 0.6, epochs=50.0)]
    first, second = settings(MAP, [*longer, run("vanilla", 10, 0.50), run("hardest", 10, 0.52)])
    gains = [setting.gain(MILD, "hardest", KNN) for setting in (first, second)]
    assert [gain.mean for gain in gains if gain] == pytest.approx([2, -10])
    assert (first.shared["epochs"], second.count) == (10.0, "3 runs outside the plan")
    assert settings(MAP, []) == []


def test_best_against_best_takes_each_arms_own_strength(run: Run) -> None:
    draw = np.random.default_rng(1)
    strengths = (MILD, USUAL, Strength(0.08, 1.0), Strength(0.4, 0.5))
    accuracy = {name: draw.uniform(0.3, 0.6, (4, 3)) for name in ("vanilla", "hardest")}
    lines = [
        run(arm, 10 + seed, table[place, seed], strength)
        for arm, table in accuracy.items()
        for place, strength in enumerate(strengths)
        for seed in range(3)
    ]
    setting = only(lines)
    places = {arm: int(table.mean(1).argmax()) for arm, table in accuracy.items()}
    assert {arm: setting.best(arm) for arm in accuracy} == {arm: strengths[place] for arm, place in places.items()}
    gain = setting.best_gain("hardest", LINEAR)
    differences = 100 * (accuracy["hardest"][places["hardest"]] - accuracy["vanilla"][places["vanilla"]])
    assert gain is not None and gain.mean == pytest.approx(differences.mean())
    assert gain.error == pytest.approx(differences.std(ddof=1) / np.sqrt(3))
    assert setting.best("random") is None and setting.best_gain("random", KNN) is None


def test_transfer_is_measured_where_it_was_probed(run: Run) -> None:
    lines = [run("vanilla", 10, 0.5, transfer={"flowers": 0.30}), run("hardest", 10, 0.5, transfer={"flowers": 0.34})]
    lines += [run("vanilla", 11, 0.5), run("hardest", 11, 0.5, transfer={"flowers": 0.9})]
    setting = only(lines)
    flowers = Measure("linear", "flowers")
    assert setting.measures == [KNN, LINEAR, Measure("knn", "flowers"), flowers]
    gain = setting.gain(MILD, "hardest", flowers)
    assert gain is not None and (gain.mean, gain.spread.count, gain.test_error) == (pytest.approx(2), 1, None)
