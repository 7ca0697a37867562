"""Flips and quarter turns, which do not commute: the law of a sequence of them, compared with that of a recipe's flips and turn."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hvs_data.integrations.transforms.parts import Flip, Step, Turn
from hvs_data.integrations.transforms.report import Report

# What happens to a square, told by where nine of its places go, and how often.
Law = dict[bytes, float]


def turning_of(steps: Sequence[Step], report: Report) -> dict[str, Any]:
    """The fields of a role that turn and flip views as these steps do. What no role does is refused."""
    turns = [step for step in steps if isinstance(step.part, Turn)]
    flips = {
        vertical: _either_way([step.p for step in steps if isinstance(step.part, Flip) and step.part.vertical == vertical])
        for vertical in (False, True)
    }
    fields: dict[str, Any] = {"flip": flips[False], "vertical_flip": flips[True]}
    if not turns:
        return fields
    if len(turns) > 1:
        report.refuse(turns[1].path, turns[1].name, f"a recipe does this once, got it also from {turns[0].label}", "drop one of the two")
        return fields
    turn = turns[0]
    assert isinstance(turn.part, Turn)
    fields |= {"turn": turn.p, "quarters": turn.part.quarters}
    in_order = [*(Step("", "", Flip(vertical), p) for vertical, p in flips.items()), turn]
    wanted, drawn = _law([step for step in steps if isinstance(step.part, (Flip, Turn))]), _law(in_order)
    if any(not math.isclose(wanted.get(place, 0), drawn.get(place, 0), abs_tol=1e-9) for place in wanted | drawn):
        why = "it stands before a flip; a recipe flips before it turns, and these two do not commute"
        report.refuse(turn.path, turn.name, why, "put it behind the flips")
    return fields


def _law(steps: Sequence[Step]) -> Law:
    law: Law = {np.arange(9).tobytes(): 1.0}
    for step in steps:
        after: Law = defaultdict(float)
        for place, p in law.items():
            after[place] += p * (1 - step.p)
            ways = _ways(step)
            for way in ways:
                after[np.ascontiguousarray(way(np.frombuffer(place, np.int64).reshape(3, 3))).tobytes()] += p * step.p / len(ways)
        law = after
    return law


def _ways(step: Step) -> list[Callable[[Any], Any]]:
    if isinstance(step.part, Turn):
        return [lambda square, quarter=quarter: np.rot90(square, quarter) for quarter in step.part.quarters]  # type: ignore[misc]
    return [np.flipud if isinstance(step.part, Flip) and step.part.vertical else np.fliplr]


def _either_way(probabilities: Sequence[float]) -> float:
    """Probability of an odd number of flips."""
    odd = 0.0
    for p in probabilities:
        odd = odd * (1 - p) + (1 - odd) * p
    return odd
