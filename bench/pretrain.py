"""Does training on hardest pairs help? Arms and controls on labelled images, several seeds, nearest neighbours and a linear probe.

    python bench/pretrain.py --data FOLDER [--method simclr] [--arms all] [--seeds 0 1 2]     run what is missing
    python bench/pretrain.py --data FOLDER --experiment map [--transfer FOLDER ...]           the runs of an experiment, in its order
    python bench/pretrain.py --data FOLDER --cost                                             measure what a step of each arm costs
    python bench/pretrain.py --table                                                          the results so far

Each run appends a line to ``bench/results/<machine>/pretrain.jsonl``. The runs of an experiment may be spread over machines and days and
go to ``bench/results/experiments/<experiment>.jsonl``; those of one strength of the views and one seed share one precision, and a machine
leaves out what was begun in another. An interrupted command resumes where it stopped, also in the middle of a training; several at once
share the work. Arms are compared at equal epochs, and at equal time once ``--cost`` has measured, on a machine that does nothing else,
what a step of each costs. Runs themselves may share a machine with other work (``nice -n 19``).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads of a network that spin while they wait take the cores of the loader's

import torch

from harness.data import images
from harness.measuring import machine, results
from harness.pretraining import arms, methods
from harness.pretraining.blocks import pooled
from harness.pretraining.comparison import EPOCHS, SIZES, Comparison
from harness.pretraining.experiments import EXPERIMENTS
from harness.pretraining.queue import work_through, work_through_experiment
from harness.pretraining.runs import MATCHES, UNTRAINED, Runs
from harness.pretraining.steps import LEAD, cost, over_the_run, side_by_side
from harness.pretraining.strength import Strength
from harness.pretraining.training import PRECISIONS, Setup, Training
from harness.reporting.summary import report

BENCH = "pretrain"
WORK = results.ROOT / "build" / "bench" / "pretrain"
COST_STEPS, COST_REPEATS = 24, 7


def measure_cost(comparison: Comparison, names: Sequence[str], runs: Runs, steps: int = COST_STEPS, repeats: int = COST_REPEATS) -> None:
    """Time a step of each arm beside vanilla's, and write it down."""
    everyone = dict.fromkeys(["vanilla", *names])
    trainings = {name: Training(comparison.setup, comparison.arms[name], comparison.split.train, 1000, seed=0) for name in everyone}
    times = side_by_side(trainings, steps, repeats, over_the_run)
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
    parser.add_argument("--cost", action="store_true", help="measure what a step of each arm costs; needs a machine that does nothing else")
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
    parser.add_argument("--work", type=Path, default=WORK, help="folder of checkpoints (build/bench/pretrain)")
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
    lines = runs.lines()
    print(report(lines if options.experiment is None else pooled(lines)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
