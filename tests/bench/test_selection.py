"""The frontier: which points lie on it, how steps are timed, and the whole bench on a few pictures."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import steps
import torch
from schema import check_form

pytest.importorskip("psutil", reason="the bench extra is not installed")
import selection  # noqa: E402
from frontier import SELECTION, frontier, report  # noqa: E402
from settings import EXACT, OF_METHOD, settings  # noqa: E402
from timing import Spread  # noqa: E402


def test_a_point_is_on_the_frontier_unless_another_is_no_worse_in_both() -> None:
    points = [(1.0, 0.0), (1.1, 0.5), (1.1, 0.6), (1.2, 0.6), (1.3, 0.9), (1.25, 0.9), (1.05, -0.1), (1.1, 0.6)]
    assert frontier(points) == [True, False, True, False, False, True, False, False]
    assert frontier([(2.0, 1.0)]) == [True]


class Sleepy:
    """Stands for a training whose loader, selector and steps take known times; the first steps take longer."""

    setup = SimpleNamespace(device="cpu")

    def __init__(self, batches: int) -> None:
        self.batches = batches
        self.loader = self
        self.made = 0
        self.closed = False
        self.selector = SleepySelector.__new__(SleepySelector)
        self.selector.seconds = 0.0

    def __iter__(self) -> Iterator[int]:
        try:
            for number in range(self.batches):
                time.sleep(0.1 if number < steps.LEAD else 0.03)
                self.selector.seconds += 0.02
                yield number
        finally:
            self.closed = True

    def trained_on(self, batch: int) -> None:
        self.made += 1
        time.sleep(0.04)


class SleepySelector(steps.TimedSelector):
    """Has a time and nothing else."""


def test_steps_are_timed_after_those_whose_batches_were_made_ahead() -> None:
    training = Sleepy(steps.LEAD + 5)
    times = steps.timed_steps(training, 3)  # type: ignore[arg-type]
    assert training.made == steps.LEAD + 3 and training.closed
    # a sleep takes its time at least, and on a busy machine some more
    assert 0.01 <= times.wait < 0.06 and times.select == pytest.approx(0.02) and 0.04 <= times.train < 0.09
    assert times.whole == pytest.approx(times.wait + times.select + times.train)
    with pytest.raises(RuntimeError, match="batches"):
        steps.timed_steps(Sleepy(steps.LEAD + 1), 3)  # type: ignore[arg-type]


def test_a_cost_is_a_ratio_of_the_same_round() -> None:
    times = {"one": [steps.StepTimes(0.25, 0.5, 0.25), steps.StepTimes(0.5, 0.5, 1)], "base": [steps.StepTimes(0, 0, 0.5)] * 2}
    assert steps.cost(times, "one", "base") == Spread((2, 4))


@pytest.mark.parametrize("method", list(OF_METHOD))
def test_every_setting_can_be_made(method: str, photo_folder: Path, tmp_path: Path) -> None:
    bench = selection.bench_of(["--data", str(photo_folder), "--quick", "--method", method, "--work", str(tmp_path), "--threads", "1"])
    bench.trained()
    fine, not_run = selection.usable(bench)
    assert not_run == {} and list(fine) == list(settings(method))


def test_weights_are_trained_once_and_shared_by_all_settings(photo_folder: Path, tmp_path: Path) -> None:
    bench = selection.bench_of(["--data", str(photo_folder), "--quick", "--trained", "2", "--work", str(tmp_path), "--threads", "1"])
    bench.trained()
    written = bench.snapshot.stat().st_mtime_ns
    bench.trained()
    assert bench.snapshot.stat().st_mtime_ns == written
    models = [bench.training(name).method.model.state_dict() for name in ("vanilla", EXACT, "every 2")]
    assert bench.training(EXACT).step == 2
    for name, weight in models[0].items():
        assert all(torch.equal(weight, model[name]) for model in models[1:])


@pytest.mark.slow
def test_a_quick_run_writes_a_valid_result(photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for position, path in enumerate([*photo_folder.glob("*.jpg")] * 10):  # an epoch is longer than a round
        (folder / f"{position}.jpg").write_bytes(path.read_bytes())
    arguments = ["--data", str(folder), "--quick", "--no-check", "--threads", "1", "--settings", "every 2", "8 views"]
    assert selection.main([*arguments, "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]) == 0
    (path,) = tmp_path.glob("out/*/selection_simsiam.json")
    result = json.loads(path.read_text())
    check_form(result, SELECTION)
    its = {setting["name"]: setting for setting in result["settings"]}
    assert list(its) == ["vanilla", EXACT, "every 2", "8 views"]
    # the same choice, valued by the same losses; sums may be taken in another order
    assert its[EXACT]["captured"] == pytest.approx(1, abs=1e-4) == its["8 views"]["captured"]
    assert its["8 views"]["of_four"] > 1.1 and -0.5 < its["every 2"]["captured"] < 1
    assert its["vanilla"]["cost"]["repeats"] == [1.0, 1.0] and its["vanilla"]["seconds"]["select"] == 0 < its[EXACT]["seconds"]["select"]
    assert its["vanilla"]["peak_of_vanilla"] == 1 and its[EXACT]["peak_mib"] > 0 and its["8 views"]["peak_mib"] is None
    assert any(setting["on_frontier"] for setting in result["settings"])
    printed = capsys.readouterr().out
    assert printed.startswith("QUICK RUN") and "target: 1.10 x" in printed
    assert report(result) in printed
