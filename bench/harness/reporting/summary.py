"""Pretraining runs as tables: mean and spread over the seeds, and the difference to vanilla seed by seed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.pretraining.runs import UNTRAINED, comparisons
from harness.pretraining.strength import Strength
from harness.reporting.tables import table

PLUS_MINUS, MINUS = "\N{PLUS-MINUS SIGN}", "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Row:
    """The runs of one arm that are matched alike.

    Attributes:
        arm, about, selector, match: of the runs.
        runs: lines by seed.
        vanilla: lines of vanilla at equal epochs, by seed; its time is the time to which others are matched.
        cost: a step's time over vanilla's, None where it was not measured.
    """

    arm: str
    about: str
    selector: str
    match: str
    runs: dict[int, dict[str, Any]]
    vanilla: dict[int, dict[str, Any]]
    cost: float | None

    @property
    def steps(self) -> float:
        return statistics.median(line["steps"] for line in self.runs.values())

    def accuracy(self, probe: str) -> MeanAndSpread:
        """In percent; ``probe`` is "knn" or "linear"."""
        return MeanAndSpread.of([100 * line[probe] for line in self.runs.values()])

    def gain(self, probe: str) -> MeanAndSpread | None:
        """Difference to vanilla in percentage points, over the seeds that both have; None for vanilla itself and without such seeds."""
        shared = self.runs.keys() & self.vanilla.keys()
        if not shared or self.arm == "vanilla":
            return None
        return MeanAndSpread.of([100 * (self.runs[seed][probe] - self.vanilla[seed][probe]) for seed in sorted(shared)])

    def late(self, column: str) -> float | None:
        """Mean of a column of the history over the last quarter of its stretches and the seeds."""
        values: list[float] = []
        for line in self.runs.values():
            numbers = [value for value in line["history"]["columns"][column] if value is not None]
            values += numbers[-max(1, len(numbers) // 4) :]
        return statistics.fmean(values) if values else None


@dataclass(frozen=True)
class MeanAndSpread:
    """Attributes:
    mean: over the seeds.
    deviation: standard deviation between seeds; None of a single one.
    count: seeds.
    """

    mean: float
    deviation: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> MeanAndSpread:
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))

    @property
    def standard_error(self) -> float | None:
        return None if self.deviation is None else self.deviation / self.count**0.5

    def text(self, signed: bool = False) -> str:
        mean = f"{self.mean:+.2f}" if signed else f"{self.mean:.2f}"
        spread = "" if self.deviation is None else f" {PLUS_MINUS} {self.deviation:.2f}"
        return (mean + spread).replace("-", MINUS)


def rows(lines: Sequence[dict[str, Any]], comparison: dict[str, Any]) -> list[Row]:
    """The runs of a comparison, arm by arm; equal epochs before equal time. An arm whose settings have changed has a row for each."""
    chosen = [line for line in lines if line["comparison"] == comparison and line["kind"] == "run"]
    costs = {(line["arm"], line["selector"]): line["median"] for line in lines if line["kind"] == "cost" and alike(line, comparison)}
    vanilla = {line["seed"]: line for line in chosen if line["arm"] == "vanilla" and line["match"] == "epochs"}
    groups: dict[tuple[str, str, str], dict[int, dict[str, Any]]] = {}
    for line in chosen:
        groups.setdefault((line["match"], line["arm"], line["selector"]), {})[line["seed"]] = line
    made = [
        Row(arm, next(iter(of_seed.values()))["about"], selector, match, of_seed, vanilla, costs.get((arm, selector)))
        for (match, arm, selector), of_seed in groups.items()
    ]
    return sorted(made, key=lambda row: (row.match != "epochs", row.arm != UNTRAINED, row.arm != "vanilla"))


def alike(line: dict[str, Any], comparison: dict[str, Any]) -> bool:
    """Whether a cost was measured on the steps of this comparison."""
    return all(line["comparison"][name] == value for name, value in comparison.items() if name not in ("epochs", "images"))


def title(comparison: dict[str, Any]) -> str:
    its = comparison["sizes"]
    strength = Strength(**comparison["views"]).in_words()
    return (
        f"{comparison['method']} on {comparison['images']} images of {comparison['data']}, {comparison['epochs']:g} epochs, "
        f"{strength + ', ' if strength else ''}"
        f"views of {its['view']:g} pixels, width {its['width']:g}, batch {its['batch']:g}, {comparison['precision']}"
    )


def report(lines: Sequence[dict[str, Any]]) -> str:
    """All comparisons, losses included."""
    parts = []
    for comparison in comparisons([line for line in lines if line["kind"] == "run"]):
        parts.append(f"{title(comparison)}\n\n{_table(rows(lines, comparison))}")
    if not parts:
        return "no runs yet"
    note = f"mean {PLUS_MINUS} standard deviation between seeds; differences to vanilla in percentage points, seed by seed"
    return "\n\n".join([*parts, note])


def _table(its: Sequence[Row]) -> str:
    header = ["arm", "at equal", "seeds", "steps", "x step", "k-NN %", "to vanilla", "linear %", "to vanilla", "IoU chosen", "others"]
    cells = []
    for row in its:
        probes = []
        for probe in ("knn", "linear"):
            gain = row.gain(probe)
            probes += [row.accuracy(probe).text(), "-" if gain is None else gain.text(signed=True)]
        overlaps = ["-" if (late := row.late(column)) is None else f"{late:.3f}" for column in ("selected_iou", "other_iou")]
        cost = "-" if row.cost is None else f"{row.cost:.2f}"
        cells.append([f"{row.arm} ({row.selector})", row.match, str(len(row.runs)), f"{row.steps:.0f}", cost, *probes, *overlaps])
    return table(header, cells)
