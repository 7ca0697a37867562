"""From positions of an epoch to batches rendered on a CUDA device: images are decoded on worker threads and all else is the device's.

A batch's way: worker threads decode into page-locked memory (:class:`Staging`). Once all of its images are there, the launching thread
queues on the lane, a stream beside the consumer's: the copy of the images, and the rendering of all rows, after which the device's copy
of the images is let go, unless it is kept for rendering more of their views. When the batch is asked for, the consumer's stream is told to
wait for that point of the lane. The host never waits for the device.
"""

# Axes: B image of a batch, V view slot.

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvs_data.arguments.sizes import Size
from hvs_data.loaders.canvases import Canvases, Images
from hvs_data.loaders.lanes import Lane
from hvs_data.loaders.launching import Launched, LaunchedProduction
from hvs_data.loaders.order import EpochOrder
from hvs_data.loaders.plan import Plan
from hvs_data.loaders.production import Group
from hvs_data.loaders.samples import DecodedSample
from hvs_data.loaders.staging import Staging
from hvs_data.loaders.wanted import Wanted
from hvs_data.loaders.watch import result_of
from hvs_data.types.batch import Batch
from hvs_data.types.rows import ViewParams


class DeviceProduction(LaunchedProduction):
    """As :class:`LaunchedProduction`, with views rendered by the plan's engine on the lane's device."""

    def __init__(
        self,
        plan: Plan,
        order: EpochOrder,
        lane: Lane,
        *,
        wanted: Callable[[int], Wanted] | None = None,
        keep_images: bool = False,
    ):
        # the launching thread does not know what this one's current device is
        super().__init__(replace(plan, device=lane.device), order, lane, wanted=wanted, keep_images=keep_images)
        self._most_bytes = 0  # that the images of one batch took

    def render(self, images: Images, params: ViewParams, sizes_K: Sequence[Size] | None = None) -> list[Tensor]:
        """Render rows [B, K] of kept images, at their own sizes by default, on the consumer's stream: K tensors [B, C, H, W]."""
        canvases = Canvases(Wanted(tuple(sizes_K or params.size)), params.batch_size, self._plan)
        canvases.render(images, params, self._plan, 0)
        return canvases.views()

    def _begin(self, positions_B: NDArray[np.int64], wanted: Wanted) -> tuple[Any, list[Future[Any]]]:
        staging = Staging(self._lane.host_memory, self._most_bytes)
        groups = self._read_groups(positions_B, staging)
        return staging, [self._launcher.submit(self._launch, staging, groups, wanted)]

    # --- on the worker threads -----------------------------------------------------------------------------------------

    def _rendered(self, samples: list[DecodedSample], canvases: Any, first_image: int) -> Group:
        """Not rendered yet: its images are places in the staging memory."""
        index, keys, labels, arrays, height, width, denominators = (list(column) for column in zip(*samples, strict=True))
        places: Any = [canvases.add(array) for array in arrays]
        return Group(self._samples.rows(keys, height, width), index, labels, Images(places, torch.tensor(denominators)))

    # --- on the launching thread ---------------------------------------------------------------------------------------

    def _launch(self, staging: Staging, futures: list[Future[list[Any]]], wanted: Wanted) -> Launched:
        """Queue all of a batch's work, as soon as its images are there."""
        read = [group for future in futures for group in result_of(future)]
        self._most_bytes = max(self._most_bytes, staging.size)
        with self._lane.working():
            groups, memory = self._arrived(staging, read)
            params = ViewParams.concatenate([group.params for group in groups])
            images = Images.joined([group.images for group in groups])
            canvases = Canvases(wanted, params.batch_size, self._plan)
            canvases.render(images, params, self._plan, 0)
            labels, index = self._labels_and_index(groups)
            mark = self._lane.mark()
        batch = Batch(canvases.views(), labels, index, params, self._order.epoch, normalized=self._plan.normalize)
        kept = [*batch.views, labels, *(memory if self._keep_images else [])]
        return Launched(batch, images if self._keep_images else None, wanted, canvases.slots, mark, kept)

    def _arrived(self, staging: Staging, groups: list[Any]) -> tuple[list[Group], list[Tensor]]:
        """Groups whose images are on the device, and tensors that hold the memory of these; called on the lane."""
        blocks = [self._lane.to_device(block) for block in staging.blocks()]
        on_device = [replace(group.images, pixels=[place.within(blocks) for place in group.images.pixels]) for group in groups]
        return [replace(group, images=images) for group, images in zip(groups, on_device, strict=True)], blocks
