"""Warnings of what a monitor sees: views that hardly overlap, and a model that collapses. Each comes once."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from hvs_data.selection.harmful import HardnessWarning

# A mean over fewer images moves too much to be judged.
ENOUGH_IMAGES = 512
# Before a model has learned anything, its outputs may be much alike; so low from the beginning is told of after so many steps only.
PATIENCE = 1000
# What was that many times as large has fallen, and is told of at once.
FALLEN = 4.0


class Alarms:
    """Judges numbers as they come.

    Args:
        min_iou: least mean overlap of chosen pairs; None for no warning.
        min_std: least spread of the model's outputs; None for no warning.
    """

    def __init__(self, min_iou: float | None, min_std: float | None):
        self.min_iou = min_iou
        self.min_std = min_std
        self._iou_total = self._iou_images = 0.0
        self._steps = 0
        self._largest_std = 0.0
        self._told: set[str] = set()

    def judge(self, means: Mapping[str, float], images: int, steps: int) -> None:
        """Warn if that is due.

        Args:
            means: over the selections since the last call: ``iou_chosen``, ``iou_other`` and ``output_std`` where they are known.
            images, steps: how many images and steps these were.
        """
        if self.min_iou is not None and "iou_chosen" in means:
            self._judge_overlap(means["iou_chosen"], means.get("iou_other"), images)
        if self.min_std is not None and "output_std" in means:
            self._judge_spread(means["output_std"], steps)

    def _judge_overlap(self, iou: float, other: float | None, images: int) -> None:
        assert self.min_iou is not None
        self._iou_total += iou * images
        self._iou_images += images
        if self._iou_images < ENOUGH_IMAGES:
            return
        mean = self._iou_total / self._iou_images
        self._iou_total = self._iou_images = 0.0
        if mean < self.min_iou:
            beside = "" if other is None else f" ({other:.2f} of the others)"
            self._tell(
                "overlap",
                f"expected the views of chosen pairs to overlap by {self.min_iou} or more (mean IoU), got {mean:.2f}{beside}: views that "
                "show different things have little to teach. Keep such pairs out, HardViewSelector(allowed=hvs.rules.MinIoU(0.2)); draw "
                "fewer candidates; or raise the recipe's smallest crop. Monitor(..., min_iou=) moves this limit",
            )

    def _judge_spread(self, std: float, steps: int) -> None:
        assert self.min_std is not None
        self._steps += steps
        self._largest_std = max(self._largest_std, std)
        if std < self.min_std and (self._largest_std >= FALLEN * self.min_std or self._steps >= PATIENCE):
            self._tell(
                "collapse",
                f"expected the model's outputs of different images to differ, got a standard deviation of {std:.3f} (1 where they point in "
                f"all directions alike, largest so far {self._largest_std:.2f}): the model gives nearly the same output for all images. "
                "Lower the learning rate or lengthen its warm-up, check the stop-gradient, the momentum and the centring of the teacher, "
                "and let selection begin later: HardViewSelector(warmup=). Monitor(..., min_std=) moves this limit",
            )

    def _tell(self, what: str, message: str) -> None:
        if what not in self._told:
            self._told.add(what)
            warnings.warn(message, HardnessWarning, stacklevel=5)
