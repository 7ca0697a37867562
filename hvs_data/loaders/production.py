"""From positions of an epoch to rendered batches: read, decode, sample rows and render on worker threads, a few batches ahead."""

# Axes: B image of a batch, G image of a group, V view slot, C channel, S side.

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvs_data.errors import BadImagesError, HvsError
from hvs_data.kernels.render.canvas import Canvas
from hvs_data.loaders.buffers import BufferPool
from hvs_data.loaders.counters import Counters
from hvs_data.loaders.crew import Crew
from hvs_data.loaders.quarantine import Quarantine
from hvs_data.loaders.reading import read_with_retries
from hvs_data.loaders.watch import Watch
from hvs_data.order import EpochOrder
from hvs_data.pipelines.decode import decode_image, jpeg_size
from hvs_data.pipelines.engine import Engine
from hvs_data.pipelines.scaled import boxes_in_decoded, denominator_for
from hvs_data.recipes.spec import Recipe
from hvs_data.sampling import sample_views
from hvs_data.sources.base import Source
from hvs_data.sources.retry import Retries
from hvs_data.types import Batch, ImageBatch, ViewParams

# Images that one task reads and renders: rows are cheaper to draw for many images at once, small tasks share the work evenly.
MIN_GROUP, MAX_GROUP = 8, 16
# Bytes of decoded images that a thread holds beside those kept for later: of ImageNet's about sixty, of 11 megapixels one.
MAX_GROUP_BYTES = 2**25


@dataclass(frozen=True)
class Plan:
    """How the images of a source become views: what stays the same for the life of a loader. Fields as ViewLoader's arguments."""

    source: Source
    recipe: Recipe
    engine: Engine
    device: torch.device
    seed: int
    num_threads: int
    prefetch: int
    dtype: torch.dtype
    channels_last: bool
    normalize: bool
    exif_orientation: bool
    max_pixels: int
    scaled_decode: bool
    quarantine: Quarantine
    counters: Counters
    retries: Retries
    timeout: float | None
    buffers: BufferPool


@dataclass(frozen=True)
class Product:
    """A batch of all candidates, and what it takes to render more of its images' views.

    Attributes:
        batch: the candidates.
        images: of the batch; None unless they were to be kept.
    """

    batch: Batch
    images: Images | None
    _production: Production

    def render(self, params: ViewParams) -> list[Tensor]:
        """Render rows [B, V] of the kept images at the rows' own sizes: one [B, 3, S, S] tensor a slot."""
        assert self.images is not None, "iterate with keep_images=True"
        return self._production.render(self.images, params)


@dataclass(frozen=True)
class Images:
    """Decoded images, perhaps smaller than they are.

    Attributes:
        pixels: uint8 [H, W, 3] each.
        denominator_B: int64, the fraction of its full size, in whose pixels boxes count, to which each was decoded.
    """

    pixels: Sequence[Tensor]
    denominator_B: Tensor

    @staticmethod
    def joined(parts: Sequence[Images]) -> Images:
        return Images([image for part in parts for image in part.pixels], torch.cat([part.denominator_B for part in parts]))

    def part(self, start: int, stop: int) -> Images:
        return Images(self.pixels[start:stop], self.denominator_B[start:stop])


class _Sample(NamedTuple):
    place: int  # index in the source
    label: int
    pixels: NDArray[np.uint8]
    height: int
    width: int
    denominator: int


@dataclass(frozen=True)
class _Group:
    params: ViewParams
    index: list[int]
    labels: list[int]
    images: Images


class Canvases:
    """Memory for V views of B images, one canvas for every size among the slots."""

    def __init__(self, sizes_V: Sequence[int], images: int, plan: Plan):
        slots_of = {size: [slot for slot, its in enumerate(sizes_V) if its == size] for size in dict.fromkeys(sizes_V)}
        self._views = len(sizes_V)
        self._parts = [
            (slots, _empty_canvas(len(slots), images, size, plan)) for size, slots in slots_of.items()
        ]  # fmt: skip

    def render(self, images: Images, params: ViewParams, plan: Plan, first_image: int) -> None:
        """Render rows [G, V] into images ``first_image`` to ``first_image + G - 1``."""
        params = boxes_in_decoded(params, images.denominator_B, images.pixels)
        for slots, canvas in self._parts:
            rows = params if len(slots) == self._views else params.views(slots)
            plan.engine.render_group(images.pixels, rows, canvas, normalize=plan.normalize, first_image=first_image)

    def views(self) -> list[Tensor]:
        """One [B, 3, S, S] tensor a slot."""
        by_slot = {slot: view for slots, canvas in self._parts for slot, view in zip(slots, canvas.views(), strict=True)}
        return [by_slot[slot] for slot in range(self._views)]


def _empty_canvas(views: int, images: int, size: int, plan: Plan) -> Canvas:
    if plan.device.type == "cuda":
        # torch's own pool of page-locked memory knows when a copy to the device has ended
        return Canvas.empty(views, images, size, plan.dtype, channels_last=plan.channels_last, pin_memory=True)
    flat = plan.buffers.take(views * images * 3 * size * size, plan.dtype)
    return Canvas.on(flat, views, images, size, channels_last=plan.channels_last)


class Production:
    """One iteration's threads, memory and batches in the making. Close it when the iteration ends.

    Args:
        plan: how views are made.
        order: the epoch's samples.
        sizes_V: side in pixels at which each slot is rendered; None takes the recipe's own.
        keep_images: hand the decoded images out with each batch.
    """

    def __init__(self, plan: Plan, order: EpochOrder, *, sizes_V: Sequence[int] | None = None, keep_images: bool = False):
        self._plan = plan
        self._order = order
        self._sizes_V = tuple(sizes_V or (role.size for role in plan.recipe.slot_roles))
        self._keep_images = keep_images
        self._crew = Crew(plan.num_threads, name="hvs-loader")
        self._watch = Watch(self._crew, plan.source, plan.timeout)

    def close(self) -> None:
        """End the threads; those that storage holds up are left behind after the timeout, or at once where it has passed already."""
        self._crew.close(0 if self._watch.stalled else self._plan.timeout)

    def batches(self, steps: Iterable[NDArray[np.int64]]) -> Iterator[Product]:
        """The batch of each step, in order, while the next ones are in the making.

        Args:
            steps: positions [B] of each step's samples.
        """
        pending: deque[tuple[Canvases, list[Future[list[_Group]]]]] = deque()
        for positions in steps:
            pending.append(self._begin(positions))
            if len(pending) > self._plan.prefetch:
                yield self._finished(*pending.popleft())
        while pending:
            yield self._finished(*pending.popleft())

    def render(self, images: Images, params: ViewParams) -> list[Tensor]:
        """Render rows [B, V] of decoded images at their own sizes, before all that is prefetched: one [B, 3, S, S] tensor a slot."""
        canvases = Canvases(params.size, params.batch_size, self._plan)

        def render_group(start: int, stop: int) -> None:
            canvases.render(images.part(start, stop), params.images(slice(start, stop)), self._plan, start)

        parts = _split(params.batch_size, 2 * self._plan.num_threads)
        self._watch.results([self._crew.submit(render_group, *bounds, urgent=True) for bounds in parts])
        return self._on_device(canvases)

    def _begin(self, positions_B: NDArray[np.int64]) -> tuple[Canvases, list[Future[list[_Group]]]]:
        canvases = Canvases(self._sizes_V, len(positions_B), self._plan)
        images = len(positions_B)
        groups = _split(images, max(-(-images // MAX_GROUP), min(-(-images // MIN_GROUP), 2 * self._plan.num_threads)))
        index_B = self._order(positions_B)
        tasks = [(positions_B[start:stop], index_B[start:stop], canvases, start) for start, stop in groups]
        return canvases, [self._crew.submit(self._make_groups, *task) for task in tasks]

    def _finished(self, canvases: Canvases, futures: list[Future[list[_Group]]]) -> Product:
        groups = [group for made in self._watch.results(futures) for group in made]
        device = self._plan.device
        batch = Batch(
            views=self._on_device(canvases),
            labels=torch.tensor([label for group in groups for label in group.labels], dtype=torch.int64, device=device),
            index=torch.tensor([index for group in groups for index in group.index], dtype=torch.int64, device=device),
            params=ViewParams.concatenate([group.params for group in groups]),
            epoch=self._order.epoch,
        )
        return Product(batch, Images.joined([group.images for group in groups]) if self._keep_images else None, self)

    def _on_device(self, canvases: Canvases) -> list[Tensor]:
        if self._plan.device.type == "cpu":
            return canvases.views()
        return [view.to(self._plan.device, non_blocking=True) for view in canvases.views()]

    # --- on the worker threads -----------------------------------------------------------------------------------------

    def _make_groups(self, positions: NDArray[np.int64], index: NDArray[np.int64], canvases: Canvases, first_image: int) -> list[_Group]:
        """Read and render these samples: one group, or several where large images would take too much memory together."""
        groups: list[_Group] = []
        waiting: list[_Sample] = []
        for position, place in zip(positions.tolist(), index.tolist(), strict=True):
            waiting.append(self._read(position, place))
            if sum(sample.pixels.nbytes for sample in waiting) >= MAX_GROUP_BYTES:
                groups.append(self._rendered(waiting, canvases, first_image))
                first_image += len(waiting)
                waiting = []
        return [*groups, self._rendered(waiting, canvases, first_image)] if waiting else groups

    def _rendered(self, samples: list[_Sample], canvases: Canvases, first_image: int) -> _Group:
        index, labels, arrays, height, width, denominators = (list(column) for column in zip(*samples, strict=True))
        images = Images(list(ImageBatch(arrays)), torch.tensor(denominators))
        params = self._rows(index, height, width)
        canvases.render(images, params, self._plan, first_image)
        # what is not kept is let go before the batch is complete
        return _Group(params, index, labels, images if self._keep_images else images.part(0, 0))

    def _rows(self, index: Any, height: Any, width: Any) -> ViewParams:
        return sample_views(self._plan.recipe, seed=self._plan.seed, epoch=self._order.epoch, index=index, height=height, width=width)

    def _read(self, position: int, index: int) -> _Sample:
        """The sample at a position of the epoch, or the next one that can be read."""
        plan = self._plan
        for further in range(1, self._order.length + 1):
            self._watch.reads(index)
            try:
                data, label = read_with_retries(plan.source, index, plan.retries, plan.counters)
                sample = _Sample(index, label, *self._decoded(data, index))
                plan.counters.add(read=1, replaced=int(further > 1))
                return sample
            except (OSError, HvsError) as error:
                plan.quarantine.add(index, plan.source.name_of(index), f"{type(error).__name__}: {error}")
            finally:
                self._watch.has_read()
            index = int(self._order(position + further))
        raise BadImagesError(f"none of the source's {self._order.length} images can be read; see the reasons in the loader's quarantine")

    def _decoded(self, data: Any, index: int) -> tuple[NDArray[np.uint8], int, int, int]:
        """Pixels, height and width of the image in full, and the denominator of the fraction to which it was decoded."""
        plan = self._plan
        # an image that is to be turned is decoded in full: the sizes in its header are not those of what comes out
        size = jpeg_size(data) if plan.scaled_decode and not plan.exif_orientation else None
        denominator = 1
        if size is not None:
            rows = self._rows([index], [size[0]], [size[1]])
            denominator = denominator_for(rows, rows.size)
        pixels = decode_image(data, exif_orientation=plan.exif_orientation, max_pixels=plan.max_pixels, denominator=denominator)
        if size is None or pixels.shape[:2] == size:
            return pixels, pixels.shape[0], pixels.shape[1], 1
        return pixels, *size, denominator


def _split(images: int, parts: int) -> list[tuple[int, int]]:
    """Bounds of so many parts of nearly equal size, or of one an image where there are fewer images."""
    count = min(images, parts)
    bounds = [images * part // count for part in range(count + 1)]
    return list(zip(bounds[:-1], bounds[1:], strict=True))
