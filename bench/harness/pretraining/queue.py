"""The queue of runs: several processes share it, and an interrupted run resumes from its checkpoint."""

from __future__ import annotations

import fcntl
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.pretraining import arms, probes
from harness.pretraining.blocks import Block, block_of, other_precision
from harness.pretraining.comparison import Comparison
from harness.pretraining.experiments import Experiment
from harness.pretraining.runs import UNTRAINED, Run, Runs, packed
from harness.pretraining.training import History, Training

STEPS_BETWEEN_SAVES = 100
# shares of a run after which k-NN accuracy is measured
LOOKS = (0.25, 0.5)
# an arm whose step costs vanilla's up to this share is not run again at equal time
SAME_COST = 0.01


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


def work_through_experiment(experiment: Experiment, comparison: Comparison, runs: Runs, work: Path) -> None:
    """Make what is missing of an experiment, in its order; of a block that was begun in another precision, nothing."""
    left: set[Block] = set()
    for part in experiment.parts:
        for seed, strength, arm in part.runs():
            under = comparison.under(strength)
            run = under.run(arm, part.match, seed)
            other = other_precision(run, runs.lines())
            if other is None:
                work_through(under, [arm], [part.match], [seed], runs, work)
            elif block_of(run) not in left:
                left.add(block_of(run))
                print(
                    f"seed {seed}, {strength.in_words() or 'views as published'}: left out, since its first runs were made in {other} "
                    f"and its arms are compared in one precision; --precision {other} makes the others here",
                    file=sys.stderr,
                    flush=True,
                )


def trained(comparison: Comparison, run: Run, steps: int, checkpoint: Path) -> dict[str, Any]:
    """Train, from the checkpoint on if there is one, and probe the features: a line of the results."""
    arm = comparison.arms.get(run.arm, arms.ARMS["vanilla"])
    training = Training(comparison.setup, arm, comparison.split.train, steps, run.seed)
    if checkpoint.exists():
        training.load(checkpoint)
    told = time.monotonic()
    encoder, view = training.method.encoder, comparison.setup.sizes.view
    looks = {round(share * steps) for share in LOOKS}
    for step in training.run():
        if step in looks:
            training.curve[step] = probes.knn_of(encoder, comparison.split, view)
        if step % STEPS_BETWEEN_SAVES == 0 or step in looks or step == steps:
            training.save(checkpoint)
        if time.monotonic() - told > 30:
            told = time.monotonic()
            print(f"  step {step} of {steps}, {training.seconds / step * 1e3:.0f} ms each", file=sys.stderr, flush=True)
    scores = probes.scores(encoder, comparison.split, view)
    others = {name: probes.scores(encoder, split, view) for name, split in comparison.transfer.items()}
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
        "right": {name: packed(right) for name, right in scores.right.items()},
        "curve": {str(step): accuracy for step, accuracy in training.curve.items()},
        "transfer": {name: {"knn": its.knn, "linear": its.linear} for name, its in others.items()},
        "history": {"step": history.step, "columns": history.columns},
        "conditions": comparison.conditions([run.seed], 1),
    }


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether this process holds the lock of a file; it is released at the end, also when the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
