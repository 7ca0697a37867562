"""Where the time of a training step goes, and how much of the run is over."""

# Axes: B image, P legal pair.

from __future__ import annotations

import math
from time import perf_counter
from typing import Any

from torch import Tensor

import hvs_data as hvs
from hvs_data.demo.records import StepRecord
from hvs_data.demo.settings import Settings


class TimedSelector(hvs.HardViewSelector):
    """A selector that adds up the seconds spent in it.

    Attributes:
        seconds: so far.
    """

    seconds = 0.0

    def select(self, *args: Any, **kwargs: Any) -> hvs.Selection:
        start = perf_counter()
        try:
            return super().select(*args, **kwargs)
        finally:
            self.seconds += perf_counter() - start

    def __call__(self, *args: Any, **kwargs: Any) -> list[Tensor]:
        start = perf_counter()
        try:
            return super().__call__(*args, **kwargs)
        finally:
            self.seconds += perf_counter() - start


class Clock:
    """Times the parts of every step of a run, which begins when this is made.

    Args:
        settings: of the run.
        selector: whose time is told apart.

    Attributes:
        learning_rate: of the current step, from half a cosine over the share of the run that is over.
        is_over: whether the time is up or the steps are done.
    """

    def __init__(self, settings: Settings, selector: TimedSelector):
        self.learning_rate = settings.learning_rate
        self.is_over = False
        self._settings = settings
        self._selector = selector
        self._steps = 0
        self._start = self._step_start = self._arrival = perf_counter()
        self._selected_before = selector.seconds

    def views_are_there(self) -> None:
        """The loader has handed out a batch."""
        self._arrival = perf_counter()
        self.learning_rate = self._settings.learning_rate * (1 + math.cos(math.pi * self._share_over())) / 2

    def record(self, batch: hvs.Batch, loss: float) -> StepRecord:
        """The step that ends now; the next one begins.

        Raises:
            HvsError: the loss is not finite.
        """
        self._steps += 1
        if not math.isfinite(loss):
            raise hvs.HvsError(f"expected a finite training loss, got {loss} in step {self._steps}; lower the learning rate")
        now = perf_counter()
        selecting = self._selector.seconds - self._selected_before
        record = StepRecord(
            step=self._steps,
            epoch=batch.epoch,
            images=len(batch.index),
            elapsed=now - self._start,
            learning_rate=self.learning_rate,
            loss=loss,
            **_pairs_of(batch),
            view_seconds=self._arrival - self._step_start - selecting,
            select_seconds=selecting,
            train_seconds=now - self._arrival,
        )
        self.is_over = self._share_over() >= 1
        self._step_start, self._selected_before = now, self._selector.seconds
        return record

    def _share_over(self) -> float:
        by_time = (perf_counter() - self._start) / self._settings.seconds
        by_steps = self._steps / self._settings.max_steps if self._settings.max_steps else 0.0
        return min(1.0, max(by_time, by_steps))


def _pairs_of(batch: hvs.Batch) -> dict[str, float]:
    """Mean loss and overlap of the chosen pairs, and of those beside them."""
    selection = batch.selection
    assert selection is not None and selection.iou is not None
    iou_BP = hvs.iou(batch.params)[:, selection.legal]
    other_iou_B = (iou_BP.sum(1) - selection.iou) / (iou_BP.shape[1] - 1)
    return {
        "chosen_loss": selection.loss.mean().item(),
        "mean_loss": selection.losses[:, selection.legal].mean().item(),
        "chosen_iou": selection.iou.mean().item(),
        "other_iou": other_iou_B.mean().item(),
    }
