"""Experiments on when hard views help: their runs, the most informative ones first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.pretraining.strength import Strength


@dataclass(frozen=True)
class Part:
    """Some arms under some strengths of the views.

    Attributes:
        strengths: of the views, the most informative ones first.
        arms: names in ``arms.ARMS``.
        seeds: of the runs; all of a seed come before the next one.
        match: "epochs", or "time": as many steps as take the time of vanilla's, once it was measured what a step costs.
    """

    strengths: Sequence[Strength]
    arms: Sequence[str]
    seeds: Sequence[int]
    match: str = "epochs"

    def runs(self) -> Iterator[tuple[int, Strength, str]]:
        for seed in self.seeds:
            for strength in self.strengths:
                for arm in self.arms:
                    yield seed, strength, arm


@dataclass(frozen=True)
class Experiment:
    """Runs of one method that answer a question.

    Attributes:
        question: in a sentence.
        method: of ``methods.METHODS``.
        epochs: of every run, by name of the data; under "", of any other.
        parts: one after the other.
    """

    question: str
    method: str
    epochs: dict[str, float]
    parts: Sequence[Part]

    def epochs_on(self, data: str) -> float:
        return self.epochs.get(data, self.epochs[""])


# From the two settings of the first look, whose signs differed, to the rest of the grid.
GRID = tuple(
    Strength(crop, color)
    for crop, color in ((0.6, 0.5), (0.2, 1.0), (0.08, 1.0), (0.4, 0.5), (0.2, 0.5), (0.6, 1.0), (0.4, 1.0), (0.08, 0.5))
)

# Where hardest pairs and random ones were best with the first seed; other seeds compare them there.
BEST = (Strength(0.4, 0.5), Strength(0.4, 1.0))
# milder than the hardest of all pairs, or of other pairs
POLICIES = ("warmed-up", "tempered", "feasible", "mixed", "hard-crops", "hard-colors")

EXPERIMENTS = {
    "map": Experiment(
        "Over which strengths of crops and colours do hard pairs help?",
        "simclr",
        {"cifar10": 10.0, "": 25.0},
        (
            Part(GRID[:2], ("vanilla", "hardest"), (10, 11, 12, 13)),
            Part(GRID[2:], ("vanilla", "hardest"), (10,)),
            Part(GRID[:1], ("hardest", "half-size"), (10, 11), match="time"),
            Part(GRID[:1], ("smallest-iou", "balanced-8", "cheap-16"), (10,)),
            Part(BEST, ("vanilla", "hardest"), (11, 12, 13)),
            Part(GRID[:1], ("smallest-iou", "cheap-16"), (10, 11), match="time"),
            Part(GRID[:1], ("smallest-iou", "cheap-16"), (11,)),
            Part(BEST[1:], ("smallest-iou", "cheap-16"), (11, 12)),
            Part(BEST[1:], ("hardest",), (11, 12), match="time"),
            Part((GRID[1], GRID[0]), POLICIES, (10,)),
            Part(GRID[:2], ("random",), (10, 11)),
            Part(GRID[2:], ("vanilla", "hardest"), (11,)),
        ),
    ),
    "directional": Experiment(
        "Do hard views help as sources towards the view that shows most, where they are not targets?",
        "byol",
        {"cifar10": 50.0, "": 100.0},
        (Part((Strength(0.2, 1.0),), ("vanilla", "third-random", "third-hard", "hardest"), (30, 31, 32)),),
    ),
    "faithful": Experiment(
        "Does the published choice help the published method, scored by the pair alone?",
        "simsiam",
        {"": 100.0},
        (Part((Strength(0.2, 1.0),), ("vanilla", "hardest", "random"), (50, 51, 52)),),
    ),
    "all-pairs": Experiment(
        "Do all pairs of four views, alike or by their losses, teach more than two views in the same time?",
        "simclr",
        {"cifar10": 10.0, "": 25.0},
        (
            Part(GRID[:2], ("vanilla",), (40, 41)),
            Part(GRID[:2], ("hardest", "all-pairs", "soft-pairs"), (40, 41), match="time"),
        ),
    ),
    "long": Experiment(
        "Do hard pairs help where a training is long for its images, and do they pay for the slower step there?",
        "simclr",
        {"": 60.0},
        tuple(
            part
            for seed in (20, 21)
            for part in (
                Part((BEST[1], GRID[0], GRID[1], BEST[0]), ("vanilla", "hardest"), (seed,)),
                Part((BEST[1], GRID[0]), ("hardest", "smallest-iou"), (seed,), match="time"),
            )
        ),
    ),
}
