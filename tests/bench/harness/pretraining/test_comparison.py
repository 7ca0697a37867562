"""A comparison names its runs as they were named when they were made."""

from __future__ import annotations

from harness.data.images import Split
from harness.measuring.results import RESULTS
from harness.pretraining import arms
from harness.pretraining.comparison import SIZES, Comparison
from harness.pretraining.experiments import EXPERIMENTS
from harness.pretraining.runs import Run, Runs
from harness.pretraining.strength import Strength
from harness.pretraining.training import Setup


def test_committed_runs_of_an_experiment_are_recognised_and_not_made_again() -> None:
    for path in (RESULTS / "experiments").glob("*.jsonl"):
        experiment = EXPERIMENTS[path.stem]
        runs = Runs(path)
        for line in (line for line in runs.lines() if line["kind"] == "run"):
            its = line["comparison"]
            setup = Setup(experiment.method, SIZES[experiment.method], its["precision"], strength=Strength(**its["views"]))
            split = Split(range(its["images"]), range(0), 0)  # type: ignore[arg-type]
            comparison = Comparison(setup, split, its["data"], experiment.epochs_on(its["data"]), arms.arms_of(experiment.method))
            assert comparison.run(line["arm"], line["match"], line["seed"]).key == Run.of(line).key
            cost = runs.cost(its, line["arm"], line["selector"]) if line["match"] == "time" else 1.0
            assert cost is not None and round(comparison.steps / cost) == line["steps"]
