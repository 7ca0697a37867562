"""Does training on hardest pairs help? Arms and controls on labelled images, several seeds, nearest neighbours and a linear probe.

    python bench/pretrain.py --data FOLDER [--method simclr] [--arms all] [--seeds 0 1 2]     run what is missing
    python bench/pretrain.py --data FOLDER --experiment map [--transfer FOLDER ...]           the runs of an experiment, in its order
    python bench/pretrain.py --data FOLDER --cost                                             measure what a step of each arm costs
    python bench/pretrain.py --table                                                          the results so far

A run appends one line to ``bench/results/<machine>/pretrain.jsonl``, or, of an experiment, whose runs may be spread over machines and days,
to ``bench/results/experiments/<experiment>.jsonl``. A command that is broken off goes on where it stood, in the middle of a training, too;
several at once share the work. Arms are compared at equal epochs, and at equal time once ``--cost`` has told, on a machine that does
nothing else, how many steps take as long as vanilla's; so runs need no quiet machine and may lie behind other work (``nice -n 19``).
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads of a network that spin while they wait take the cores of the loader's

import torch

from harness.data import images
from harness.measuring import machine, results
from harness.pretraining import (
    arms,
    methods,
    probes,
)
from harness.pretraining.experiments import EXPERIMENTS, Experiment
from harness.pretraining.runs import MATCHES, UNTRAINED, Run, Runs
from harness.pretraining.steps import LEAD, cost, side_by_side
from harness.pretraining.strength import Strength
from harness.pretraining.training import PRECISIONS, History, Setup, Training
from harness.reporting.summary import report

BENCH = "pretrain"
WORK = results.ROOT / "build" / "bench" / "pretrain"
STEPS_BETWEEN_SAVES = 100
# shares of a run after which nearest neighbours are asked
LOOKS = (0.25, 0.5)
# steps of an arm that cost less than this share more than vanilla's are not run a second time at equal time
SAME_COST = 0.01
SIZES = {
    "simclr": methods.Sizes(view=32, width=16, stem_stride=2, batch=128, learning_rate=0.2),
    "simsiam": methods.Sizes(view=32, width=16, stem_stride=2, batch=64, learning_rate=0.05),
    "dino": methods.Sizes(view=32, width=8, batch=128, learning_rate=1e-3),
}
EPOCHS = {"simclr": 8.0, "simsiam": 8.0, "dino": 8.0}
COST_STEPS, COST_REPEATS = 8, 7


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        setup: shared by all arms.
        split: the images.
        data: a name for them.
        epochs: of the arms that are matched by epochs.
        arms: by name.
        transfer: other labelled images on which the features are probed, by name.
    """

    setup: Setup
    split: images.Split
    data: str
    epochs: float
    arms: dict[str, arms.Arm]
    transfer: dict[str, images.Split] = field(default_factory=dict)

    def under(self, strength: Strength) -> Comparison:
        """The same comparison with views of this strength."""
        return replace(self, setup=replace(self.setup, strength=strength))

    @property
    def steps(self) -> int:
        return max(1, round(self.epochs * (len(self.split.train) // self.setup.sizes.batch)))

    def as_json(self) -> dict[str, Any]:
        return {**self.setup.as_json(), "epochs": self.epochs, "data": self.data, "images": len(self.split.train)}

    def run(self, arm: str, match: str, seed: int) -> Run:
        view = self.setup.sizes.view
        return Run(self.as_json(), arm, "none" if arm == UNTRAINED else self.arms[arm].in_words(view), match, seed)

    def recipe_in_words(self) -> str:
        return self.setup.method + ("" if self.setup.sizes.published else " at the size of small images, without blur")

    def conditions(self, seeds: Sequence[int], repeats: int) -> dict[str, Any]:
        sizes = {name: value for name, value in self.setup.as_json()["sizes"].items() if value >= 1}
        return results.conditions(
            data={self.data: images.described([self.split.train, self.split.test])},
            sizes={**sizes, "trained_on": len(self.split.train), "held_out": len(self.split.test), "classes": self.split.classes},
            recipe=", ".join(filter(None, [self.recipe_in_words(), self.setup.strength.in_words()])),
            seeds=seeds,
            repeats=repeats,
            settings={
                "torch threads": str(torch.get_num_threads()),
                "loader threads": str(self.setup.loader_threads),
                "precision": self.setup.precision,
                "probes": f"{probes.NEIGHBOURS} nearest neighbours by cosine; logistic regression, C = {probes.INVERSE_PENALTY}",
            },
        )


def wanted(
    comparison: Comparison, names: Sequence[str], matches: Sequence[str], seeds: Sequence[int], runs: Runs
) -> Iterator[tuple[Run, int]]:
    """Runs with their steps, seed by seed, those at equal epochs first; those at equal time for which a cost is known."""
    for seed in seeds:
        if "epochs" in matches:
            for name in names:
                yield comparison.run(name, "epochs", seed), 0 if name == UNTRAINED else comparison.steps
        if "time" in matches:
            for name in names:
                if name == UNTRAINED:
                    continue
                run = comparison.run(name, "time", seed)
                its = runs.cost(run.comparison, name, run.selector)
                if its is not None and abs(its - 1) > SAME_COST:
                    yield run, max(1, round(comparison.steps / its))


def work_through(comparison: Comparison, names: Sequence[str], matches: Sequence[str], seeds: Sequence[int], runs: Runs, work: Path) -> int:
    """Make all runs that are missing and that no other process is making; how many were made."""
    made = 0
    for run, steps in wanted(comparison, names, matches, seeds, runs):
        with claimed(work / f"{run.key}.lock") as mine:
            if mine and run.key not in runs.done():
                print(f"{run.key}: {steps} steps", file=sys.stderr, flush=True)
                runs.add(trained(comparison, run, steps, work / f"{run.key}.pt"))
                made += 1
    return made


def trained(comparison: Comparison, run: Run, steps: int, checkpoint: Path) -> dict[str, Any]:
    """Train, from the checkpoint on if there is one, and test: a line of the results."""
    arm = comparison.arms.get(run.arm, arms.ARMS["vanilla"])
    training = Training(comparison.setup, arm, comparison.split.train, steps, run.seed)
    if checkpoint.exists():
        training.load(checkpoint)
    told = time.monotonic()
    encoder, view = training.method.encoder, comparison.setup.sizes.view
    looks = {round(share * steps) for share in LOOKS}
    for step in training.run():
        if step in looks:
            training.curve[step] = probes.knn(encoder, comparison.split, view)
        if step % STEPS_BETWEEN_SAVES == 0 or step in looks or step == steps:
            training.save(checkpoint)
        if time.monotonic() - told > 30:
            told = time.monotonic()
            print(f"  step {step} of {steps}, {training.seconds / step * 1e3:.0f} ms each", file=sys.stderr, flush=True)
    scores = probes.scores(encoder, comparison.split, view)
    transfer = {name: probes.scores(encoder, split, view) for name, split in comparison.transfer.items()}
    history = History.of(training.columns) if steps else History([1], {name: [None] for name in training.columns})
    return {
        "kind": "run",
        "comparison": run.comparison,
        "arm": run.arm,
        "about": "the network as it is initialised" if run.arm == UNTRAINED else arm.about,
        "selector": run.selector,
        "match": run.match,
        "seed": run.seed,
        "steps": steps,
        "seconds": round(training.seconds, 1),
        "knn": scores.knn,
        "linear": scores.linear,
        "curve": {str(step): accuracy for step, accuracy in training.curve.items()},
        "transfer": {name: asdict(its) for name, its in transfer.items()},
        "history": {"step": history.step, "columns": history.columns},
        "conditions": comparison.conditions([run.seed], 1),
    }


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether this process may do the work that a file stands for; others may not until it has ended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def measure_cost(comparison: Comparison, names: Sequence[str], runs: Runs, steps: int = COST_STEPS, repeats: int = COST_REPEATS) -> None:
    """Time a step of each arm beside vanilla's, and write it down."""
    everyone = dict.fromkeys(["vanilla", *names])
    trainings = {name: Training(comparison.setup, comparison.arms[name], comparison.split.train, 1000, seed=0) for name in everyone}
    times = side_by_side(trainings, steps, repeats)
    for name in names:
        run = comparison.run(name, "time", 0)
        line = {"kind": "cost", "comparison": run.comparison, "arm": name, "selector": run.selector}
        conditions = comparison.conditions([0], repeats)
        runs.add({**line, **cost(times, name, "vanilla").as_json(), "conditions": conditions})


def comparison_of(options: argparse.Namespace) -> Comparison:
    """What the command line asks for."""
    its = SIZES[options.method]
    asked = {"view": options.view, "width": options.width, "batch": options.batch_size, "learning_rate": options.learning_rate}
    sizes = replace(its, **{name: value for name, value in asked.items() if value is not None})
    precision = options.precision or usual_precision(options.device)
    strength = Strength(options.crop, options.color)
    setup = Setup(options.method, sizes, precision, options.device, options.threads, strength)
    split = images.open_split(options.data, options.images)
    name = images.name_of(options.data)
    usual = EPOCHS[options.method] if options.experiment is None else EXPERIMENTS[options.experiment].epochs_on(name)
    transfer = {images.name_of(folder): images.open_split(folder) for folder in options.transfer}
    return Comparison(setup, split, name, options.epochs or usual, arms.arms_of(options.method), transfer)


def usual_precision(device: str) -> str:
    """bfloat16 where the hardware multiplies it faster."""
    fast = device != "cpu" or torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if fast else "float32"


def results_file(folder: Path, experiment: str | None = None) -> Path:
    """Where lines go: of an experiment, to one file of all machines."""
    if experiment is not None:
        return folder / "experiments" / f"{experiment}.jsonl"
    return folder / machine.machine_name(machine.cpu_model(), machine.cores()) / f"{BENCH}.jsonl"


def work_through_experiment(experiment: Experiment, comparison: Comparison, runs: Runs, work: Path) -> None:
    """Make what is missing of an experiment, in its order."""
    for part in experiment.parts:
        for seed, strength, arm in part.runs():
            work_through(comparison.under(strength), [arm], ["epochs"], [seed], runs, work)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="labelled images: a folder of classes or of tar shards; by default the demo's example photos")
    parser.add_argument("--experiment", choices=list(EXPERIMENTS), help="make the runs of an experiment of experiments.py")
    parser.add_argument("--transfer", nargs="+", default=[], help="other labelled images, on which the features are probed, too")
    parser.add_argument("--method", choices=list(methods.METHODS), default="simclr")
    parser.add_argument("--crop", type=float, help="lower bound of the crops' share of the area; by default the method's")
    parser.add_argument("--color", type=float, help="factor of the changes of colour (1)")
    parser.add_argument("--arms", nargs="+", default=["all"], help=f"all, or some of {', '.join(arms.ARMS)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--match", nargs="+", choices=MATCHES, default=list(MATCHES), help="at equal epochs, equal time, or both")
    parser.add_argument("--epochs", type=float, help="of the runs at equal epochs")
    parser.add_argument("--cost", action="store_true", help="measure what a step of each arm costs, on a machine that does nothing else")
    parser.add_argument("--table", action="store_true", help="print the results so far and do nothing else")
    parser.add_argument("--images", type=int, help="use so many of the images")
    parser.add_argument("--view", type=int, help="side of the views in pixels")
    parser.add_argument("--width", type=int, help="channels of the network's first stage")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--precision", choices=list(PRECISIONS), help="by default bfloat16 where the hardware is made for it")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="threads of the network, and as many of the loader (1)")
    parser.add_argument("--out", type=Path, default=results.RESULTS, help="folder of the results (bench/results)")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of what is needed to go on (build/bench/pretrain)")
    options = parser.parse_args(arguments)
    runs = Runs(results_file(options.out, options.experiment))
    if not options.table:
        if options.experiment is not None:
            options.method = EXPERIMENTS[options.experiment].method
        known = [UNTRAINED, *arms.arms_of(options.method)]
        names = list(known) if options.arms == ["all"] else options.arms
        if unknown := sorted(set(names) - set(known)):
            parser.error(f"expected arms of {options.method} among {', '.join(known)}, got {', '.join(unknown)}")
        torch.set_num_threads(options.threads)
        comparison = comparison_of(options)
        if options.cost:
            if len(comparison.split.train) // comparison.setup.sizes.batch < LEAD + COST_STEPS:
                parser.error(f"a cost takes {LEAD + COST_STEPS} batches of an epoch; use more images")
            measure_cost(comparison, [name for name in names if name != UNTRAINED], runs)
        elif options.experiment is not None:
            work_through_experiment(EXPERIMENTS[options.experiment], comparison, runs, options.work)
        else:
            work_through(comparison, names, options.match, options.seeds, runs, options.work)
    print(report(runs.lines()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
