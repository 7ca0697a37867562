"""From positions of an epoch to rendered batches: read, decode, sample rows and render on worker threads, a few batches ahead."""

# Axes: B image of a batch, G image of a group, V view slot, C channel, S side.

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvs_data.errors import BadImagesError, DecodeError, HvsError
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
    decoder: Any = None  # decodes on the device, if not None (:mod:`hvs_data.loaders.device_decoding`)


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


class DecodedSample(NamedTuple):
    """An image as it was read, and perhaps decoded to a fraction of its height and width."""

    place: int  # index in the source
    label: int
    pixels: NDArray[np.uint8]
    height: int
    width: int
    denominator: int


class _Opened(NamedTuple):
    """An image of known size, whose pixels are still to be decoded where ``pixels`` is None."""

    position: int  # in the epoch
    place: int  # index in the source
    replaces: bool  # another one
    label: int
    data: Any
    pixels: NDArray[np.uint8] | None
    height: int
    width: int


@dataclass(frozen=True)
class Group:
    """Some images of a batch, one after another."""

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
        params = boxes_in_decoded(params, images.denominator_B, [image.shape[:2] for image in images.pixels])
        for rows, canvas in self._rows_of_parts(params):
            plan.engine.render_group(images.pixels, rows, canvas, normalize=plan.normalize, first_image=first_image)

    def painter(self, params: ViewParams, plan: Plan, first_image: int) -> Callable[[int, Tensor], None]:
        """A function that renders all views of an image, by its number in the group, for an engine that takes images one by one.

        Args:
            params: rows [G, V], boxes in decoded pixels.
        """
        begin_group = plan.engine.begin_group  # type: ignore[attr-defined]
        painters = [
            begin_group(rows, canvas, normalize=plan.normalize, first_image=first_image) for rows, canvas in self._rows_of_parts(params)
        ]

        def paint(number: int, image: Tensor) -> None:
            for painter in painters:
                painter(number, image)

        return paint

    def _rows_of_parts(self, params: ViewParams) -> Iterator[tuple[ViewParams, Canvas]]:
        for slots, canvas in self._parts:
            yield params if len(slots) == self._views else params.views(slots), canvas

    def views(self) -> list[Tensor]:
        """One [B, 3, S, S] tensor a slot."""
        by_slot = {slot: view for slots, canvas in self._parts for slot, view in zip(slots, canvas.views(), strict=True)}
        return [by_slot[slot] for slot in range(self._views)]


def _empty_canvas(views: int, images: int, size: int, plan: Plan) -> Canvas:
    elements = views * images * 3 * size * size
    on_device = plan.device.type == "cuda"
    flat = torch.empty(elements, dtype=plan.dtype, device=plan.device) if on_device else plan.buffers.take(elements, plan.dtype)
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
        pending: deque[tuple[Any, list[Future[Any]]]] = deque()
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

    def _begin(self, positions_B: NDArray[np.int64]) -> tuple[Any, list[Future[Any]]]:
        """Have a batch made: where it goes, and the tasks that make it."""
        canvases = Canvases(self._sizes_V, len(positions_B), self._plan)
        return canvases, self._read_groups(positions_B, canvases)

    def _read_groups(self, positions_B: NDArray[np.int64], canvases: Any) -> list[Future[list[Group]]]:
        images = len(positions_B)
        groups = _split(images, max(-(-images // MAX_GROUP), min(-(-images // MIN_GROUP), 2 * self._plan.num_threads)))
        index_B = self._order(positions_B)
        tasks = [(positions_B[start:stop], index_B[start:stop], canvases, start) for start, stop in groups]
        return [self._crew.submit(self._make_groups, *task) for task in tasks]

    def _finished(self, canvases: Any, futures: list[Future[Any]]) -> Product:
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

    def _make_groups(self, positions: NDArray[np.int64], index: NDArray[np.int64], canvases: Any, first_image: int) -> list[Group]:
        """Read and render these samples: one group, or several where large images would take too much memory together."""
        places = list(zip(positions.tolist(), index.tolist(), strict=True))
        if isinstance(canvases, Canvases) and hasattr(self._plan.engine, "begin_group"):
            return [self._one_by_one(places, canvases, first_image)]
        groups: list[Group] = []
        waiting: list[DecodedSample] = []
        for position, place in places:
            waiting.append(self._read(position, place))
            if sum(sample.pixels.nbytes for sample in waiting) >= MAX_GROUP_BYTES:
                groups.append(self._rendered(waiting, canvases, first_image))
                first_image += len(waiting)
                waiting = []
        return [*groups, self._rendered(waiting, canvases, first_image)] if waiting else groups

    def _one_by_one(self, places: list[tuple[int, int]], canvases: Canvases, first_image: int) -> Group:
        """Read these samples, draw the rows of all, and then decode and render one image after the other.

        What has just been decoded still lies in the processor's cache when its views are rendered, and no more than one image is
        held beside those that are kept.
        """
        plan = self._plan
        opened = [self._opened(position, place, position) for position, place in places]
        params = self._rows([sample.place for sample in opened], [sample.height for sample in opened], [sample.width for sample in opened])
        denominators = [self._denominator(sample, params.images([number])) for number, sample in enumerate(opened)]
        sizes = [_reduced(sample, denominator) for sample, denominator in zip(opened, denominators, strict=True)]
        paint = canvases.painter(boxes_in_decoded(params, torch.tensor(denominators), sizes), plan, first_image)
        group = Group(
            params, [sample.place for sample in opened], [sample.label for sample in opened], Images([], torch.tensor(denominators))
        )
        kept: list[Tensor] = []
        for number, (sample, denominator) in enumerate(zip(opened, denominators, strict=True)):
            pixels = self._decoded_pixels(sample, denominator)
            if pixels is not None and pixels.shape[:2] == sizes[number]:
                image = ImageBatch([pixels])[0]
                paint(number, image)
            else:
                group, image = self._substituted(group, number, sample, canvases, first_image)
            if self._keep_images:
                kept.append(image)
        return replace(group, images=replace(group.images, pixels=kept) if self._keep_images else group.images.part(0, 0))

    def _substituted(self, group: Group, number: int, opened: _Opened, canvases: Canvases, first_image: int) -> tuple[Group, Tensor]:
        """Put the next image that can be read in the place of one that cannot be decoded, or the same one if it comes in another size."""
        sample = self._read(opened.position, opened.place)
        rows = self._rows([sample.place], [sample.height], [sample.width])
        images = Images(list(ImageBatch([sample.pixels])), torch.tensor([sample.denominator]))
        canvases.render(images, rows, self._plan, first_image + number)
        group.index[number], group.labels[number] = sample.place, sample.label
        group.images.denominator_B[number] = sample.denominator
        parts = [group.params.images(slice(0, number)), rows, group.params.images(slice(number + 1, None))]
        return replace(group, params=ViewParams.concatenate(parts)), images.pixels[0]

    def _rendered(self, samples: list[DecodedSample], canvases: Any, first_image: int) -> Group:
        index, labels, arrays, height, width, denominators = (list(column) for column in zip(*samples, strict=True))
        images = Images(list(ImageBatch(arrays)), torch.tensor(denominators))
        params = self._rows(index, height, width)
        canvases.render(images, params, self._plan, first_image)
        # what is not kept is let go before the batch is complete
        return Group(params, index, labels, images if self._keep_images else images.part(0, 0))

    def _rows(self, index: Any, height: Any, width: Any) -> ViewParams:
        return sample_views(self._plan.recipe, seed=self._plan.seed, epoch=self._order.epoch, index=index, height=height, width=width)

    def _read(self, position: int, index: int) -> DecodedSample:
        """The sample at a position of the epoch, or the next one that can be read."""
        first = position
        while True:
            opened = self._opened(position, index, first)
            rows = self._rows([opened.place], [opened.height], [opened.width]) if self._plan.scaled_decode else None
            denominator = 1 if rows is None else self._denominator(opened, rows)
            pixels = self._decoded_pixels(opened, denominator)
            if pixels is not None and pixels.shape[:2] == _reduced(opened, denominator):
                return DecodedSample(opened.place, opened.label, pixels, opened.height, opened.width, denominator)
            if pixels is not None:  # another decoder read it, in full
                return DecodedSample(opened.place, opened.label, pixels, pixels.shape[0], pixels.shape[1], 1)
            position = opened.position + 1
            index = int(self._order(position))

    def _opened(self, position: int, index: int, first: int) -> _Opened:
        """The sample at a position of the epoch, or the next one that can be read, up to a whole epoch after the position ``first``."""
        plan = self._plan
        for further in range(position, first + self._order.length):
            self._watch.reads(index)
            try:
                data, label = read_with_retries(plan.source, index, plan.retries, plan.counters)
                # an image that is to be turned is decoded first: the size in its header is not that of what comes out
                size = None if plan.exif_orientation else jpeg_size(data)
                pixels = self._decode(data, 1) if size is None else None
                if pixels is not None:
                    return _Opened(further, index, further > first, label, None, pixels, *pixels.shape[:2])
                assert size is not None
                if min(size) < 1:
                    raise DecodeError(f"expected an image of at least one pixel, got {size[0]} x {size[1]}; remove it")
                return _Opened(further, index, further > first, label, data, None, *size)
            except (OSError, HvsError) as error:
                self._put_aside(index, error)
            finally:
                self._watch.has_read()
            index = int(self._order(further + 1))
        raise BadImagesError(f"none of the source's {self._order.length} images can be read; see the reasons in the loader's quarantine")

    def _decoded_pixels(self, opened: _Opened, denominator: int) -> NDArray[np.uint8] | None:
        """Decoded pixels; None for what turns out to be no image."""
        self._watch.reads(opened.place)
        try:
            pixels = self._decode(opened.data, denominator) if opened.pixels is None else opened.pixels
            self._plan.counters.add(read=1, replaced=int(opened.replaces))
            return pixels
        except HvsError as error:
            self._put_aside(opened.place, error)
            return None
        finally:
            self._watch.has_read()

    def _decode(self, data: Any, denominator: int) -> NDArray[np.uint8]:
        plan = self._plan
        return decode_image(data, exif_orientation=plan.exif_orientation, max_pixels=plan.max_pixels, denominator=denominator)

    def _denominator(self, opened: _Opened, rows: ViewParams) -> int:
        """The fraction to which an image is decoded, from its rows [1, V]."""
        return denominator_for(rows, rows.size) if self._plan.scaled_decode and opened.pixels is None else 1

    def _put_aside(self, index: int, error: Exception) -> None:
        self._plan.quarantine.add(index, self._plan.source.name_of(index), f"{type(error).__name__}: {error}")


def _reduced(opened: _Opened, denominator: int) -> tuple[int, int]:
    """Height and width of an image that is decoded to a fraction."""
    return -(-opened.height // denominator), -(-opened.width // denominator)


def _split(images: int, parts: int) -> list[tuple[int, int]]:
    """Bounds of so many parts of nearly equal size, or of one an image where there are fewer images."""
    count = min(images, parts)
    bounds = [images * part // count for part in range(count + 1)]
    return list(zip(bounds[:-1], bounds[1:], strict=True))
