"""What was published of hard views (Ferreira et al., arXiv 2310.03940), claim by claim, and what an experiment shows of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from harness.reporting.experiments import IN_TIME, KNN, LINEAR, VANILLA, Gain, Lines, Measure, Setting

HARDEST = "hardest"
NOTHING = "no runs yet"


def claims(setting: Setting) -> list[tuple[str, str]]:
    """Each claim and what was seen, of the arm "hardest", strength by strength."""
    return [
        ("Hardest pairs overlap less than others (.345 against .488 with crops from .2), and less as the model learns", _overlaps(setting)),
        ("The linear probe gains .4 to 1.9 points at equal epochs", _by_strength(setting, _gains([LINEAR]))),
        ("Features serve other data better, too", _by_strength(setting, _gains(setting.measures[2:]))),
        ("Vanilla's accuracy is reached after three eighths of its epochs", _by_strength(setting, _epochs_needed)),
        ("It pays with the slower step counted in", _by_strength(setting, _gains([KNN, LINEAR]), HARDEST + IN_TIME)),
    ]  # fmt: skip


def _overlaps(setting: Setting) -> str:
    def told(hardest: Lines, vanilla: Lines) -> str | None:
        columns = [hardest[seed]["history"]["columns"] for seed in hardest.keys() & vanilla.keys()]
        parts = [_overlap(its) for its in columns if None not in its["selected_iou"] + its["other_iou"]]
        if not parts:
            return None
        chosen, other, first, last = (statistics.fmean(column) for column in zip(*parts, strict=True))
        return f"{chosen:.2f} against {other:.2f}, from {first:.2f} at the beginning to {last:.2f} at the end"

    return _by_strength(setting, told)


def _overlap(columns: dict[str, list[float]]) -> tuple[float, float, float, float]:
    """Mean overlap of the chosen pairs and of the others, and that of the chosen ones in the first and the last part of the run."""
    chosen, other = columns["selected_iou"], columns["other_iou"]
    return statistics.fmean(chosen), statistics.fmean(other), chosen[0], chosen[-1]


def _gains(measures: Sequence[Measure]) -> Callable[[Lines, Lines], str | None]:
    def told(hardest: Lines, vanilla: Lines) -> str | None:
        found = [(measure, Gain.of(hardest, vanilla, measure)) for measure in measures]
        texts = [f"{gain.text()} {measure.name}" if len(measures) > 1 else gain.text() for measure, gain in found if gain is not None]
        return ", ".join(texts) or None

    return told


def _epochs_needed(hardest: Lines, vanilla: Lines) -> str | None:
    """Where on its way a hardest run has vanilla's final k-NN accuracy, from the few places where it was measured."""
    found = [reached(hardest[seed], vanilla[seed]["knn"]) for seed in sorted(hardest.keys() & vanilla.keys())]
    if not found:
        return None
    if math.inf in found:
        return f"not reached by the end in {found.count(math.inf)} of {len(found)} seeds"
    return f"after {statistics.fmean(found):.2f} of them"


def reached(line: dict[str, Any], accuracy: float) -> float:
    """The share of a run after which it has a k-NN accuracy, straight lines drawn between measurements; infinite if it never has.

    Before the first measurement nothing is known: what is reached by then counts as reached there.
    """
    points = [*((int(step) / line["steps"], value) for step, value in line["curve"].items()), (1.0, line["knn"])]
    for (before, low), (after, high) in zip([points[0], *points], points, strict=False):
        if high >= accuracy:
            return after if high == low or low >= accuracy else before + (after - before) * (accuracy - low) / (high - low)
    return math.inf


def _by_strength(setting: Setting, told: Callable[[Lines, Lines], str | None], arm: str = HARDEST) -> str:
    """What is told of an arm and vanilla, at every strength at which there are runs of both."""
    found = {its: told(setting.of(its, arm), setting.of(its, VANILLA)) for its in setting.strengths}
    return "; ".join(f"{its.in_words() or 'views as published'}: {words}" for its, words in found.items() if words) or NOTHING
