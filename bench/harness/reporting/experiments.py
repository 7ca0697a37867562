"""Experiments summed up: what every arm gains over vanilla under every strength of the views, with errors, and what is missing."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.pretraining.arms import ARMS
from harness.pretraining.blocks import pooled
from harness.pretraining.experiments import Experiment
from harness.pretraining.runs import UNTRAINED, unpacked
from harness.pretraining.strength import Strength
from harness.reporting.summary import MINUS, PLUS_MINUS, MeanAndSpread

VANILLA = "vanilla"
# what the name of an arm ends with where its run takes as long as vanilla's, and so has fewer steps
IN_TIME = ", in vanilla's time"
# A gain counts as decided beyond so many errors.
ERRORS = 2
Lines = dict[int, dict[str, Any]]


@dataclass(frozen=True)
class Measure:
    """One accuracy of a run.

    Attributes:
        probe: "knn" or "linear".
        transfer: the data on which the features are probed, if not those of the training.
    """

    probe: str
    transfer: str | None = None

    @property
    def name(self) -> str:
        probe = {"knn": "k-NN", "linear": "linear probe"}[self.probe]
        return probe if self.transfer is None else f"{self.transfer}, {probe}"

    def of(self, line: Mapping[str, Any]) -> float | None:
        """From 0 to 1; None where it was not measured."""
        scores = line if self.transfer is None else line["transfer"].get(self.transfer)
        return None if scores is None else scores[self.probe]


KNN, LINEAR = Measure("knn"), Measure("linear")


@dataclass(frozen=True)
class Gain:
    """What an arm gains over vanilla, in percentage points.

    Attributes:
        spread: of the differences, seed by seed.
        test_error: standard error that comes from the number of test images: of the mean over these of the mean difference over the seeds,
            for which it is known which images each run names rightly. If that is known for none, of a difference of two runs, as if each
            were tested on images of its own, which is an upper bound if their mistakes are positively correlated. None if that number is
            not known.
    """

    spread: MeanAndSpread
    test_error: float | None

    @classmethod
    def of(cls, runs: Lines, vanilla: Lines, measure: Measure) -> Gain | None:
        """Over the seeds that both have; None if there are none."""
        pairs = {seed: (measure.of(runs[seed]), measure.of(vanilla[seed])) for seed in sorted(runs.keys() & vanilla.keys())}
        known = {seed: (its, base) for seed, (its, base) in pairs.items() if its is not None and base is not None}
        if not known:
            return None
        spread = MeanAndSpread.of([100 * (its - base) for its, base in known.values()])
        sizes = [line["conditions"]["sizes"].get("held_out") for seed in known for line in (runs[seed], vanilla[seed])]
        if measure.transfer is not None or None in sizes:
            return cls(spread, None)
        both = [(runs[seed], vanilla[seed]) for seed in known if all(measure.probe in its[seed]["right"] for its in (runs, vanilla))]
        if both:
            return cls(spread, _error_over_images(both, measure.probe))
        means = [statistics.fmean(side) for side in zip(*known.values(), strict=True)]
        return cls(spread, 100 * (sum(p * (1 - p) for p in means) / min(sizes)) ** 0.5)

    @property
    def mean(self) -> float:
        return self.spread.mean

    @property
    def error(self) -> float | None:
        """Standard error over the seeds; None of a single one."""
        return self.spread.standard_error

    @property
    def decided(self) -> bool:
        """Whether it differs from 0 by more than two standard errors over seeds and by more than two of the test set. One seed decides
        nothing, and neither does a test set of unknown size."""
        return self.error is not None and self.test_error is not None and abs(self.mean) > ERRORS * max(self.error, self.test_error)

    def text(self) -> str:
        """Such as "+1.20 ± 0.30 (0.70)": the mean, its standard error over the seeds, and that of the test set."""
        over_seeds = "" if self.error is None else f" {PLUS_MINUS} {self.error:.2f}"
        of_test = "" if self.test_error is None else f" ({self.test_error:.2f})"
        return f"{self.mean:+.2f}{over_seeds}{of_test}".replace("-", MINUS)


def _error_over_images(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], probe: str) -> float:
    """Standard error in points of the mean over the test images of what one run names rightly and the other does not."""
    count = int(pairs[0][0]["conditions"]["sizes"]["held_out"])
    right = [[unpacked(line["right"][probe], count).astype(float) for line in pair] for pair in pairs]
    gain_of_image = np.mean([its - base for its, base in right], axis=0)
    return float(100 * gain_of_image.std(ddof=1) / count**0.5)


@dataclass(frozen=True)
class Setting:
    """The runs of an experiment that differ in nothing but strength of the views, arm, seed, and precision.

    Attributes:
        shared: what they have in common.
        runs: lines by strength, arm and seed. The name of an arm ends with ``IN_TIME`` where its runs take as long as vanilla's, and has
            the arm's settings in it where these have changed since.
        plan: seeds by strength and arm; empty if the experiment does not plan runs of this method and so many epochs.
    """

    shared: dict[str, Any]
    runs: dict[tuple[Strength, str], Lines]
    plan: dict[tuple[Strength, str], set[int]] = field(default_factory=dict)

    @property
    def arms(self) -> list[str]:
        """All but vanilla, planned or run, in the plan's order."""
        return [arm for arm in dict.fromkeys(arm for _, arm in [*self.plan, *self.runs]) if arm != VANILLA]

    @property
    def strengths(self) -> list[Strength]:
        """Planned or run, in the plan's order."""
        return list(dict.fromkeys(strength for strength, _ in [*self.plan, *self.runs]))

    @property
    def measures(self) -> list[Measure]:
        """The probes on the data of the training, then on those of every transfer."""
        others = sorted({name for lines in self.runs.values() for line in lines.values() for name in line["transfer"]})
        return [KNN, LINEAR, *(Measure(probe, name) for name in others for probe in ("knn", "linear"))]

    def seeds(self, strength: Strength, arm: str) -> set[int]:
        """Those that the arm shares with vanilla."""
        return self.of(strength, arm).keys() & self.of(strength, VANILLA).keys()

    @property
    def pairs(self) -> list[tuple[Strength, str]]:
        """Strengths and arms that have a seed in common with vanilla."""
        return [(strength, arm) for strength in self.strengths for arm in self.arms if self.seeds(strength, arm)]

    def of(self, strength: Strength, arm: str) -> Lines:
        """Lines by seed; without runs, none."""
        return self.runs.get((strength, arm), {})

    def gain(self, strength: Strength, arm: str, measure: Measure) -> Gain | None:
        """Over vanilla under the same strength."""
        return Gain.of(self.of(strength, arm), self.of(strength, VANILLA), measure)

    def tried(self, arm: str) -> list[Strength]:
        """Strengths under which an arm was run."""
        return [strength for strength in self.strengths if self.of(strength, arm)]

    def best(self, arm: str) -> Strength | None:
        """The strength under which an arm's k-NN accuracy is highest, by its mean over the seeds; None without runs."""
        means = {its: statistics.fmean(line["knn"] for line in self.of(its, arm).values()) for its in self.tried(arm)}
        return max(means, key=lambda its: means[its]) if means else None

    def best_gain(self, arm: str, measure: Measure) -> Gain | None:
        """Of an arm at its best strength over vanilla at vanilla's, whatever the measure; None where they share no seed."""
        its, base = self.best(arm), self.best(VANILLA)
        return None if its is None or base is None else Gain.of(self.of(its, arm), self.of(base, VANILLA), measure)

    def done(self, arm: str | None = None) -> int:
        """Planned runs that are there, of an arm or of all."""
        return sum(len(seeds & self.of(*key).keys()) for key, seeds in self.plan.items() if arm in (None, key[1]))

    def planned(self, arm: str | None = None) -> int:
        return sum(len(seeds) for (_, its), seeds in self.plan.items() if arm in (None, its))

    @property
    def count(self) -> str:
        """How many runs there are, such as "12 of 128 runs"."""
        unplanned = sum(map(len, self.runs.values())) - self.done()
        if not self.plan:
            return f"{unplanned} {'run' if unplanned == 1 else 'runs'} outside the plan"
        return f"{self.done()} of {self.planned()} runs" + (f" and {unplanned} outside the plan" if unplanned else "")


def settings(experiment: Experiment, lines: Sequence[dict[str, Any]]) -> list[Setting]:
    """The lines of an experiment's file, both precisions pooled: what has most of the planned runs comes first."""
    shared: dict[str, dict[str, Any]] = {}
    groups: dict[str, list[dict[str, Any]]] = {}
    for line in pooled(lines):
        if line["arm"] != UNTRAINED:
            common = {name: value for name, value in line["comparison"].items() if name not in ("views", "precision")}
            key = json.dumps(common, sort_keys=True)
            shared.setdefault(key, common)
            groups.setdefault(key, []).append(line)
    made = [_setting(experiment, shared[key], its) for key, its in groups.items()]
    return sorted(made, key=lambda setting: -setting.done())


def _setting(experiment: Experiment, shared: dict[str, Any], lines: Iterable[dict[str, Any]]) -> Setting:
    runs: dict[tuple[Strength, str], Lines] = {}
    for line in lines:
        arm = ARMS.get(line["arm"])
        same = arm is not None and arm.in_words(int(shared["sizes"]["view"])) == line["selector"]
        name = line["arm"] if same else f"{line['arm']} ({line['selector']})"
        runs.setdefault((Strength(**line["comparison"]["views"]), _matched(name, line["match"])), {})[line["seed"]] = line
    fits = (shared["method"], shared["epochs"]) == (experiment.method, experiment.epochs_on(shared["data"]))
    return Setting(shared, runs, plan_of(experiment) if fits else {})


def plan_of(experiment: Experiment) -> dict[tuple[Strength, str], set[int]]:
    """Seeds of the planned runs by strength and arm."""
    plan: dict[tuple[Strength, str], set[int]] = {}
    for part in experiment.parts:
        for seed, strength, arm in part.runs():
            plan.setdefault((strength, _matched(arm, part.match)), set()).add(seed)
    return plan


def _matched(arm: str, match: str) -> str:
    return arm + IN_TIME if match == "time" else arm
