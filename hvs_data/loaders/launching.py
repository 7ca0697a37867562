"""Batches whose last steps are queued on a device by one thread, and taken over by the consumer without waiting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hvs_data.loaders.canvases import Images
from hvs_data.loaders.crew import CLOSE_PATIENCE, Crew
from hvs_data.loaders.lanes import Lane
from hvs_data.loaders.order import EpochOrder
from hvs_data.loaders.plan import Plan
from hvs_data.loaders.production import Group, Product, Production
from hvs_data.loaders.wanted import Wanted
from hvs_data.types.batch import Batch


@dataclass(frozen=True)
class Launched:
    """A batch whose work is queued, and maybe done.

    Attributes:
        batch: not to be touched before ``mark`` was handed over.
        images: on the device; None unless they are kept.
        wanted, slots: what is rendered, see :class:`Product`.
        memory: tensors that hold all of the batch's memory.
    """

    batch: Batch
    images: Images | None
    wanted: Wanted
    slots: Tensor | None
    mark: Any
    memory: list[Tensor]


class LaunchedProduction(Production):
    """As :class:`Production`, with a launching thread that queues each batch's last steps on a lane, beside the consumer's stream.

    Args:
        plan, order, wanted, keep_images: as of :class:`Production`.
        lane: of the device.
    """

    def __init__(
        self,
        plan: Plan,
        order: EpochOrder,
        lane: Lane,
        *,
        wanted: Callable[[int], Wanted] | None = None,
        keep_images: bool = False,
    ):
        super().__init__(plan, order, wanted=wanted, keep_images=keep_images)
        self._lane = lane
        self._launcher = Crew(1, name="hvs-loader-launch")

    def close(self) -> None:
        """End the threads. What is queued on the device runs to its end, in memory that is kept until then."""
        self._launcher.stop()
        try:
            super().close()
        finally:
            # it has waited for tasks that were just ended
            self._launcher.close(0 if self._watch.stalled else CLOSE_PATIENCE / 2)

    def _finished(self, canvases: Any, futures: list[Future[Any]]) -> Product:
        (launched,) = self._watch.results(futures)
        self._lane.hand_over(launched.mark, launched.memory)
        return Product(launched.batch, launched.images, launched.wanted, launched.slots, self)

    def _labels_and_index(self, groups: Sequence[Group]) -> tuple[Tensor, Tensor]:
        """Those of a batch on the device, in one copy; called on the lane."""
        labels = [label for group in groups for label in group.labels]
        index = [index for group in groups for index in group.index]
        labels_B, index_B = self._lane.to_device(torch.tensor([labels, index], dtype=torch.int64))
        return labels_B, index_B
