"""How much of the hardness does a setting capture? Without times, so that it may run beside other work.

    python bench/hardness.py [--data FOLDER_OR_SHARDS] [--method simsiam|simclr|dino|dinov2] [--settings NAME ...]

As ``bench/selection.py``, whose weights it shares, but for the times and the memory of a step. Of settings in which rows choose local
views it tells, too, what the first ones in their place would be worth.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import torch

from harness.data import images
from harness.measuring import results
from harness.measuring.schema import check_form
from harness.measuring.tests_first import refuse_if_tests_fail
from harness.reporting.hardness import HARDNESS, report
from harness.selection.bench import Bench, bench_of, parser, suffix
from harness.selection.capture import Capture, captured_by, usable
from harness.selection.settings import EXACT

TESTS = ("tests/bench/harness/selection/test_hardness.py", "tests/hvs_data/selection/test_selector.py")


def entry(bench: Bench, name: str, its: Capture) -> dict[str, Any]:
    """A setting's line of the result."""
    first = its.first_locals
    return {
        "name": name,
        "selector": bench.settings[name].in_words(bench.setup.sizes.view),
        "candidates": bench.settings[name].candidates,
        "captured": its.chosen.share.value,
        "captured_error": its.chosen.share.standard_error,
        "of_four": its.chosen.of_four.value,
        "of_four_error": its.chosen.of_four.standard_error,
        "of_four_first_locals": None if first is None else first.of_four.value,
        "of_four_first_locals_error": None if first is None else first.of_four.standard_error,
    }


def run(bench: Bench, quick: bool) -> dict[str, Any]:
    """Measure everything; the whole result."""
    print("training on exactly selected pairs", file=sys.stderr, flush=True)
    bench.trained()
    fine, not_run = usable(bench)
    bench.settings.clear()
    bench.settings.update(fine)
    entries = [entry(bench, name, its) for name, its in captured_by(bench).items()]
    amounts, sizes = bench.amounts, bench.setup.as_json()["sizes"]
    return {
        "bench": f"hardness_{bench.setup.method}{suffix(bench.setup)}",
        "question": "how much of the hardness settings capture",
        "quick": quick,
        "conditions": results.conditions(
            data={bench.data: images.described([bench.source])},
            sizes={
                **{name: value for name, value in sizes.items() if value >= 1},
                "trained_steps": amounts.trained,
                "images_looked_at": amounts.batches * bench.setup.sizes.batch,
                "parameters": sum(weight.numel() for weight in bench.training(EXACT).method.encoder.parameters()),
            },
            recipe=bench.setup.method + ("" if bench.setup.sizes.published else " at the size of small images, without blur"),
            seeds=[bench.seed],
            repeats=1,
            settings={
                "torch threads": str(torch.get_num_threads()),
                "precision of the training": bench.setup.precision,
                "network": bench.setup.method,
                "weights": f"after {amounts.trained} steps on exactly selected pairs, of a schedule of {4 * amounts.trained}",
            },
        ),
        "settings": entries,
        "not_run": not_run,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(arguments)
    if not options.no_check:
        refuse_if_tests_fail(TESTS)
    result = run(bench_of(arguments), options.quick)
    path = results.write_result(result, options.out, check=lambda its: check_form(its, HARDNESS))
    print(report(json.loads(path.read_text())))
    print(f"\nwritten to {os.path.relpath(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
