"""Blocks of an experiment: all runs of one strength of the views and one seed, whose arms are compared with each other.

All runs of a block have one precision, so that its arms differ in nothing but how they choose. Blocks of either precision count alike,
so that machines which train in bfloat16 and machines which train in float32 can share an experiment.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.pretraining.runs import Run

Block = tuple[str, int]


def block_of(run: Run) -> Block:
    """What the runs of a block share: the comparison without its precision, and the seed."""
    shared = {name: value for name, value in run.comparison.items() if name != "precision"}
    return json.dumps(shared, sort_keys=True), run.seed


def other_precision(run: Run, lines: Sequence[dict[str, Any]]) -> str | None:
    """A precision other than this run's in which runs of its block are among some lines; None if there is none."""
    found = _precisions(lines).get(block_of(run), Counter())
    return next((precision for precision in found if precision != run.comparison["precision"]), None)


def pooled(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs of an experiment with one comparison for both precisions, "bfloat16 or float32" where blocks of both are among them.

    Two machines may have begun a block at the same time. Of such a block the precision with more runs counts, of as many the one that
    comes first, and the other runs are left out.
    """
    kept_of = {block: found.most_common(1)[0][0] for block, found in _precisions(lines).items()}
    runs = [line for line in lines if line["kind"] == "run"]
    kept = [line for line in runs if line["comparison"]["precision"] == kept_of[block_of(Run.of(line))]]
    found: dict[str, set[str]] = {}
    for line in kept:
        found.setdefault(block_of(Run.of(line))[0], set()).add(line["comparison"]["precision"])
    words = {shared: " or ".join(sorted(precisions)) for shared, precisions in found.items()}
    return [{**line, "comparison": {**line["comparison"], "precision": words[block_of(Run.of(line))[0]]}} for line in kept]


def _precisions(lines: Sequence[dict[str, Any]]) -> dict[Block, Counter[str]]:
    """How many runs of each block were made in each precision, in the order of the lines."""
    found: dict[Block, Counter[str]] = {}
    for line in lines:
        if line["kind"] == "run":
            found.setdefault(block_of(Run.of(line)), Counter())[line["comparison"]["precision"]] += 1
    return found
