"""Batches rendered on the CPU's threads into page-locked memory, and copied to a CUDA device beside the consumer's work.

For hosts with many cores: the device trains, and does nothing else but take in the views. Once all images of a batch are rendered, the
launching thread queues the copy of its views on the lane. When the batch is asked for, the consumer's stream is told to wait for that.
"""

# Axes: B image of a batch.

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvs_data.loaders.buffers import BufferPool
from hvs_data.loaders.canvases import Canvases, Images
from hvs_data.loaders.lanes import Lane
from hvs_data.loaders.launching import Launched, LaunchedProduction
from hvs_data.loaders.order import EpochOrder
from hvs_data.loaders.plan import Plan
from hvs_data.loaders.wanted import Wanted
from hvs_data.loaders.watch import result_of
from hvs_data.types.batch import Batch
from hvs_data.types.rows import ViewParams


class HostProduction(LaunchedProduction):
    """As :class:`LaunchedProduction`, with views rendered on the CPU; arguments as there."""

    def __init__(
        self,
        plan: Plan,
        order: EpochOrder,
        lane: Lane,
        *,
        wanted: Callable[[int], Wanted] | None = None,
        keep_images: bool = False,
    ):
        here = replace(plan, device=torch.device("cpu"), buffers=_LaneMemory(lane))
        super().__init__(here, order, lane, wanted=wanted, keep_images=keep_images)

    def _begin(self, positions_B: NDArray[np.int64], wanted: Wanted) -> tuple[Any, list[Future[Any]]]:
        canvases, futures = super()._begin(positions_B, wanted)
        return canvases, [self._launcher.submit(self._launch, canvases, futures)]

    def _on_device(self, canvases: Canvases) -> list[Tensor]:
        """Views that are rendered late, on the consumer's stream."""
        return canvases.views(lambda flat: flat.to(self._lane.device, non_blocking=True))

    # --- on the launching thread ---------------------------------------------------------------------------------------

    def _launch(self, canvases: Canvases, futures: list[Future[list[Any]]]) -> Launched:
        """Queue the copy of a batch's views, as soon as they are rendered."""
        groups = [group for future in futures for group in result_of(future)]
        with self._lane.working():
            views = canvases.views(self._lane.to_device)
            labels, index = self._labels_and_index(groups)
            mark = self._lane.mark()
        params = ViewParams.concatenate([group.params for group in groups])
        batch = Batch(views, labels, index, params, self._order.epoch, normalized=self._plan.normalize)
        images = Images.joined([group.images for group in groups]) if self._keep_images else None
        return Launched(batch, images, canvases.wanted, canvases.slots, mark, [*views, labels])


class _LaneMemory(BufferPool):
    """Memory that the lane's device copies from; torch's pool knows when it may be given out again."""

    def __init__(self, lane: Lane):
        super().__init__(spare=0)
        self._lane = lane

    def take(self, elements: int, dtype: torch.dtype) -> Tensor:
        return self._lane.host_memory(elements * dtype.itemsize)[: elements * dtype.itemsize].view(dtype)
