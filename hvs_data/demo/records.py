"""What a run of the demo writes down: plain numbers, from which the report is made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvs_data.demo.examples import Example
from hvs_data.demo.settings import Settings


@dataclass(frozen=True)
class StepRecord:
    """One training step. Losses and overlaps are means over the batch.

    Attributes:
        step: counted from 1.
        epoch: counted from 0.
        images: photos of the batch.
        elapsed: seconds from the start of the training to the end of this step.
        learning_rate: of this step.
        loss: of the chosen pairs at training size, in the training forward.
        chosen_loss: of the chosen pairs, as scored.
        mean_loss: of all legal pairs, as scored.
        chosen_iou: overlap of the chosen pairs' boxes in the source, 0 to 1.
        other_iou: the same of the legal pairs that were not chosen.
        view_seconds: waiting for the candidates, and rendering the chosen pairs.
        select_seconds: in the selector.
        train_seconds: forward, backward and the optimizer.
    """

    step: int
    epoch: int
    images: int
    elapsed: float
    learning_rate: float
    loss: float
    chosen_loss: float
    mean_loss: float
    chosen_iou: float
    other_iou: float
    view_seconds: float
    select_seconds: float
    train_seconds: float

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        return self.view_seconds + self.select_seconds + self.train_seconds


@dataclass(frozen=True)
class Accuracy:
    """The test by nearest neighbours, or why there was none.

    Attributes:
        before, after: share of the held-out photos whose class the nearest neighbours name, 0 to 1; None where not measured.
        majority: the same for always naming the largest class.
        neighbours: how many vote.
        fitted, held_out, classes: numbers of photos and classes.
        skipped: the reason in a sentence, where nothing was measured.
    """

    before: float | None = None
    after: float | None = None
    majority: float = 0.0
    neighbours: int = 0
    fitted: int = 0
    held_out: int = 0
    classes: int = 0
    skipped: str = ""


@dataclass(frozen=True)
class Outcome:
    """All that the report tells.

    Attributes:
        settings: as they were used.
        title: what the photos are.
        trained: photos that were trained on.
        accuracy: the test by nearest neighbours.
        records: the steps, at least one.
        examples: some photos of the last step.
        interrupted: whether the training was stopped before its end.
        notes: what the reader should know, in sentences.
    """

    settings: Settings
    title: str
    trained: int
    accuracy: Accuracy
    records: tuple[StepRecord, ...]
    examples: tuple[Example, ...] = ()
    interrupted: bool = False
    notes: tuple[str, ...] = ()

    def column(self, name: str) -> NDArray[np.float64]:
        """One attribute of :class:`StepRecord`, step by step."""
        return np.array([getattr(record, name) for record in self.records], dtype=np.float64)

    def late(self, name: str) -> float:
        """Mean of an attribute over the last tenth of the steps, at least one."""
        return float(self.column(name)[-max(1, len(self.records) // 10) :].mean())

    def share_of_time(self, name: str) -> float:
        """What one of the ``..._seconds`` took of all steps, 0 to 1."""
        return float(self.column(name).sum() / self.column("seconds").sum())

    @property
    def images_per_second(self) -> float:
        return float(self.column("images").sum() / self.column("seconds").sum())
