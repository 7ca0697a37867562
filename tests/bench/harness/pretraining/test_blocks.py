"""Blocks of either precision count alike, and no difference is taken between two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.pretraining.blocks import other_precision, pooled
from harness.pretraining.runs import Run
from harness.reporting import summary

Line = Callable[..., dict[str, Any]]


def in_precision(line: dict[str, Any], precision: str) -> dict[str, Any]:
    return {**line, "comparison": {**line["comparison"], "precision": precision}}


def test_seeds_of_either_precision_are_rows_of_one_table(line: Line) -> None:
    lines = [line("vanilla", 0, 0.2), line("hardest", 0, 0.3)]
    lines += [in_precision(its, "bfloat16") for its in (line("vanilla", 1, 0.5), line("hardest", 1, 0.7))]
    assert [row.gain("knn").count for row in summary.rows(lines, lines[0]["comparison"]) if row.arm == "hardest"] == [1]
    both = pooled(lines)
    (comparison,) = summary.comparisons(both)
    assert comparison["precision"] == "bfloat16 or float32"
    _, hardest = summary.rows(both, comparison)
    gain = hardest.gain("knn")
    assert gain is not None and (gain.mean, gain.count) == (pytest.approx(15), 2)
    # of one precision, nothing changes
    assert pooled(lines[:2]) == lines[:2]


def test_no_difference_is_taken_between_precisions(line: Line) -> None:
    # begun on two machines at the same time: vanilla in both precisions, hardest in the second alone
    lines = [line("vanilla", 0, 0.2), in_precision(line("vanilla", 0, 0.4), "bfloat16"), in_precision(line("hardest", 0, 0.5), "bfloat16")]
    _, hardest = summary.rows(pooled(lines), pooled(lines)[0]["comparison"])
    gain = hardest.gain("knn")
    assert gain is not None and (gain.mean, gain.count) == (pytest.approx(10), 1)
    assert pooled(lines[:2]) == lines[:1]


def test_a_block_is_a_strength_and_a_seed(line: Line) -> None:
    done = [in_precision(line("vanilla", 0, 0.2), "bfloat16")]
    mine = Run.of(line("hardest", 0, 0.2))
    assert other_precision(mine, done) == "bfloat16"
    assert other_precision(Run.of(done[0]), done) is None
    assert other_precision(Run.of(line("hardest", 1, 0.2)), done) is None
    stronger = {**mine.comparison, "views": {"crop": 0.08}}
    assert other_precision(Run(stronger, "hardest", mine.selector, "epochs", 0), done) is None
