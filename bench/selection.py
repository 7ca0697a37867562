"""What does selection cost, and how much of the hardness does it capture? Whole training steps, setting by setting.

    python bench/selection.py [--data FOLDER_OR_SHARDS] [--method simsiam|simclr|dino|dinov2]

Trains for a while on exactly selected pairs, so that the network is neither random nor finished. From there it measures, for every
setting of ``harness/selection/settings.py``: the time of a training step over that of a vanilla one, in alternation and with the loader;
the hardness captured, by exact losses at full size; and peak memory. Takes about half an hour on two cores that do nothing else. The
weights are kept, so that measuring again does not train again.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads of a network that spin while they wait take the cores of the loader's

import torch

from harness.data import images
from harness.measuring import results
from harness.measuring.schema import check_form
from harness.measuring.tests_first import refuse_if_tests_fail
from harness.measuring.timing import Spread
from harness.pretraining import arms
from harness.pretraining.steps import StepTimes, cost, side_by_side
from harness.reporting.frontier import SELECTION, frontier, report
from harness.selection.bench import VANILLA, Bench, bench_of, parser, suffix
from harness.selection.capture import captured_by, usable
from harness.selection.hardness import Captured
from harness.selection.peak_memory import peak_memory
from harness.selection.settings import EXACT

TESTS = (
    "tests/bench/harness/selection/test_hardness.py",
    "tests/hvs_data/selection/test_selector.py",
    "tests/hvs_data/loaders/test_hard_view_loader.py",
)
TARGET_COST, TARGET_SHARE = 1.10, 0.9


def timed(bench: Bench) -> dict[str, list[StepTimes]]:
    """Times of a step of vanilla and of every setting."""
    trainings = {name: bench.training(name) for name in (VANILLA, *bench.settings)}
    return side_by_side(trainings, bench.amounts.timed, bench.amounts.repeats)


def entry(bench: Bench, name: str, times: dict[str, list[StepTimes]], hardness: Captured | None, peaks: dict[str, float]) -> dict[str, Any]:
    """A setting's line of the result."""
    arm = arms.ARMS[VANILLA] if name == VANILLA else bench.settings[name]

    def shares(part: str) -> float:
        return Spread(tuple(getattr(its, part) for its in times[name])).median

    return {
        "name": name,
        "selector": arm.in_words(bench.setup.sizes.view),
        "candidates": arm.candidates,
        "cost": cost(times, name, VANILLA).as_json(),
        "seconds": {part: shares(part) for part in ("wait", "select", "train")},
        "captured": None if hardness is None else hardness.share.value,
        "captured_error": None if hardness is None else hardness.share.standard_error,
        "of_four": 0.0 if hardness is None else hardness.of_four.value,
        "of_four_error": 0.0 if hardness is None else hardness.of_four.standard_error,
        "peak_mib": peaks.get(name),
        "peak_of_vanilla": peaks[name] / peaks[VANILLA] if name in peaks else None,
    }


def run(bench: Bench, arguments: list[str], quick: bool) -> dict[str, Any]:
    """Measure everything; the whole result."""
    print("training on exactly selected pairs", file=sys.stderr, flush=True)
    bench.trained()
    fine, not_run = usable(bench)
    bench.settings.clear()
    bench.settings.update(fine)
    for name, why in not_run.items():
        print(f"  cannot run {name}: {why}", file=sys.stderr, flush=True)
    hardness = {name: its.chosen for name, its in captured_by(bench).items()}
    print("times of a step", file=sys.stderr, flush=True)
    times = timed(bench)
    print("peak memory", file=sys.stderr, flush=True)
    measured = [VANILLA, EXACT] if quick else [VANILLA, *bench.settings]
    peaks = {name: peak_memory(arguments, name) for name in measured}
    entries = [entry(bench, name, times, hardness.get(name), peaks) for name in (VANILLA, *bench.settings)]
    best = frontier([(its["cost"]["median"], its["of_four"]) for its in entries])
    amounts, sizes = bench.amounts, bench.setup.as_json()["sizes"]
    return {
        "bench": f"selection_{bench.setup.method}{suffix(bench.setup)}",
        "question": "what selection costs in units of a vanilla training step, and how much of the hardness it captures",
        "quick": quick,
        "conditions": results.conditions(
            data={bench.data: images.described([bench.source])},
            sizes={
                **{name: value for name, value in sizes.items() if value >= 1},
                "trained_steps": amounts.trained,
                "timed_steps": amounts.timed,
                "images_looked_at": amounts.batches * bench.setup.sizes.batch,
                "parameters": sum(weight.numel() for weight in bench.training(EXACT).method.encoder.parameters()),
            },
            recipe=bench.setup.method + ("" if bench.setup.sizes.published else " at the size of small images, without blur"),
            seeds=[bench.seed],
            repeats=amounts.repeats,
            settings={
                "torch threads": str(torch.get_num_threads()),
                "loader threads": str(bench.setup.loader_threads),
                "precision of the training": bench.setup.precision,
                "network": bench.setup.method,
                "weights": f"after {amounts.trained} steps on exactly selected pairs, of a schedule of {4 * amounts.trained}",
                "memory": "resident memory of a process that makes some steps; on CUDA what torch allocates",
            },
        ),
        "settings": [{**its, "on_frontier": on} for its, on in zip(entries, best, strict=True)],
        "not_run": not_run,
        "target": target(entries),
    }


def target(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The point of 1.10 x and 0.9 of the exact n = 4 gap: the cheapest setting that reaches it, else the one that misses least."""

    def missed(its: dict[str, Any]) -> float:
        return max(0.0, its["cost"]["median"] / TARGET_COST - 1) + max(0.0, 1 - its["of_four"] / TARGET_SHARE)

    nearest = min((its for its in entries if its["name"] != VANILLA), key=lambda its: (missed(its), its["cost"]["median"]))
    return {
        "cost": TARGET_COST,
        "captured": TARGET_SHARE,
        "nearest": nearest["name"],
        "reached": missed(nearest) == 0,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(arguments)
    if not options.no_check:
        refuse_if_tests_fail(TESTS)
    bench = bench_of(arguments)
    result = run(bench, arguments, options.quick)
    path = results.write_result(result, options.out, check=lambda its: check_form(its, SELECTION))
    print(report(json.loads(path.read_text())))
    print(f"\nwritten to {os.path.relpath(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
