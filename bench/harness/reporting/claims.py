"""What was published of hard views (Ferreira et al., arXiv 2310.03940), claim by claim, and what an experiment shows of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.reporting.experiments import IN_TIME, KNN, LINEAR, VANILLA, Gain, Lines, Measure, Setting

HARDEST = "hardest"
Told = Callable[[Lines, Lines], str]


@dataclass(frozen=True)
class Claim:
    """Something that was published of the hardest pairs.

    Attributes:
        about: a few words.
        published: what was found there.
        told: what runs of an arm beside those of vanilla show of it; "" where there is nothing to tell.
        arm: the arm.
    """

    about: str
    published: str
    told: Told
    arm: str = HARDEST


def claims(setting: Setting) -> list[Claim]:
    """All of them, in terms of what this setting measures."""
    return [
        Claim("overlap of the chosen pairs against the others", ".345 against .488, crops from .2", _overlap),
        Claim("overlap of the chosen pairs, from the first to the last part of the run", "falls, rises a little late", _course),
        Claim("linear probe, equal epochs", "+.4 to +1.9", _gains([LINEAR])),
        Claim("on other data", "better", _gains(setting.measures[2:])),
        Claim("share of the epochs after which vanilla's accuracy is reached", ".38", _epochs_needed),
        Claim("in vanilla's time", "pays", _gains([KNN, LINEAR]), HARDEST + IN_TIME),
    ]


def claims_table(setting: Setting) -> list[list[str]]:
    """A column a claim: what it is about, what was published, and what was seen, strength by strength of which there are runs."""
    columns = claims(setting)
    rows = [["", *(claim.about for claim in columns)], ["published", *(claim.published for claim in columns)]]
    for strength in setting.strengths:
        seen = [claim.told(setting.of(strength, claim.arm), setting.of(strength, VANILLA)) for claim in columns]
        if any(seen):
            rows.append([strength.in_words() or "views as published", *seen])
    return rows


def _overlap(hardest: Lines, vanilla: Lines) -> str:
    found = [(statistics.fmean(chosen), statistics.fmean(other)) for chosen, other in _overlaps(hardest, vanilla)]
    return " against ".join(f"{statistics.fmean(column):.2f}" for column in zip(*found, strict=True))


def _course(hardest: Lines, vanilla: Lines) -> str:
    found = [(chosen[0], chosen[-1]) for chosen, _ in _overlaps(hardest, vanilla)]
    return " to ".join(f"{statistics.fmean(column):.2f}" for column in zip(*found, strict=True))


def _overlaps(hardest: Lines, vanilla: Lines) -> list[tuple[list[float], list[float]]]:
    """That of the chosen pairs and of the others over each run, where it was always known."""
    columns = [hardest[seed]["history"]["columns"] for seed in hardest.keys() & vanilla.keys()]
    return [(its["selected_iou"], its["other_iou"]) for its in columns if None not in its["selected_iou"] + its["other_iou"]]


def _gains(measures: Sequence[Measure]) -> Told:
    def told(hardest: Lines, vanilla: Lines) -> str:
        found = [(measure, Gain.of(hardest, vanilla, measure)) for measure in measures]
        return ", ".join(
            f"{gain.text()} {measure.name}" if len(measures) > 1 else gain.text() for measure, gain in found if gain is not None
        )

    return told


def _epochs_needed(hardest: Lines, vanilla: Lines) -> str:
    """Where on its way a hardest run has vanilla's final k-NN accuracy, from the few places where it was measured."""
    found = [reached(hardest[seed], vanilla[seed]["knn"]) for seed in sorted(hardest.keys() & vanilla.keys())]
    if not found:
        return ""
    if math.inf in found:
        return f"not reached in {found.count(math.inf)} of {len(found)} seeds"
    return f"{statistics.fmean(found):.2f}"


def reached(line: dict[str, Any], accuracy: float) -> float:
    """The share of a run after which it has a k-NN accuracy, straight lines drawn between measurements; infinite if it never has.

    Before the first measurement nothing is known: what is reached by then counts as reached there.
    """
    points = [*((int(step) / line["steps"], value) for step, value in line["curve"].items()), (1.0, line["knn"])]
    for (before, low), (after, high) in zip([points[0], *points], points, strict=False):
        if high >= accuracy:
            return after if high == low or low >= accuracy else before + (after - before) * (accuracy - low) / (high - low)
    return math.inf
