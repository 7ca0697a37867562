"""From positions of an epoch to rendered batches, on worker threads, a few batches ahead."""

# Axes: B image of a batch, G image of a group, V view slot, K rendered view, C channel, H W pixels.

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvs_data.arguments.sizes import Size
from hvs_data.loaders.canvases import Canvases, Images
from hvs_data.loaders.crew import CLOSE_PATIENCE, Crew
from hvs_data.loaders.order import EpochOrder
from hvs_data.loaders.plan import Plan
from hvs_data.loaders.samples import DecodedSample, Opened, SampleReader
from hvs_data.loaders.wanted import Wanted
from hvs_data.loaders.watch import Watch
from hvs_data.pipelines.scaled import boxes_in_decoded
from hvs_data.recipes.spec import Twin
from hvs_data.threads.openmp import let_openmp_count
from hvs_data.types.batch import Batch
from hvs_data.types.images import ImageBatch
from hvs_data.types.rows import ViewParams

# Images that one task reads and renders: rows are cheaper to draw for many images at once, small tasks share the work evenly.
MIN_GROUP, MAX_GROUP = 8, 16
# Bytes of decoded images that a thread holds beside those kept for later: of ImageNet's about sixty, of 11 megapixels one.
MAX_GROUP_BYTES = 2**25


@dataclass(frozen=True)
class Product:
    """A batch of candidates, and what it takes to render more of its images' views.

    Attributes:
        batch: the candidates: views of those that were wanted, and the rows of all.
        images: of the batch; None unless they were to be kept.
        wanted: what was rendered.
        slots: int64 [B, K], the slots that were rendered; None for all.
    """

    batch: Batch
    images: Images | None
    wanted: Wanted
    slots: Tensor | None
    _production: Production

    @property
    def twins(self) -> tuple[Twin, ...]:
        """Those of the recipe."""
        return self._production.twins

    def render(self, params: ViewParams, sizes_K: Sequence[Size] | None = None) -> list[Tensor]:
        """Render rows [B, K] of the kept images, at the rows' own sizes by default: K tensors [B, C, H, W]."""
        assert self.images is not None, "iterate with keep_images=True"
        return self._production.render(self.images, params, sizes_K)


@dataclass(frozen=True)
class Group:
    """Some images of a batch, one after another."""

    params: ViewParams
    index: list[int]
    labels: list[int]
    images: Images


class Production:
    """One iteration's threads, memory and batches in the making. Close it when the iteration ends.

    Args:
        plan: how views are made.
        order: the epoch's samples.
        wanted: what is rendered of a batch, asked when it is begun, with the number of batches that are handed out before it; None
            takes all views of the recipe.
        keep_images: hand the decoded images out with each batch.
    """

    def __init__(self, plan: Plan, order: EpochOrder, *, wanted: Callable[[int], Wanted] | None = None, keep_images: bool = False):
        self._plan = plan
        self._order = order
        everything = Wanted.all_of(plan.recipe)
        self._wanted = wanted or (lambda ahead: everything)
        self._keep_images = keep_images
        self._crew = Crew(plan.num_threads, name="hvs-loader")
        self._watch = Watch(self._crew, plan.source, plan.timeout)
        self._samples = SampleReader(plan, order, self._watch)
        if plan.device.type == "cpu":
            self._crew.submit(let_openmp_count, plan.num_threads, urgent=True)

    def close(self) -> None:
        """End the threads, after the image that each is busy with; those that storage holds up are left behind."""
        self._crew.close(0 if self._watch.stalled else CLOSE_PATIENCE)

    @property
    def twins(self) -> tuple[Twin, ...]:
        return self._plan.recipe.twins

    def batches(self, steps: Iterable[NDArray[np.int64]]) -> Iterator[Product]:
        """The batch of each step, in order, while the next ones are in the making.

        Args:
            steps: positions [B] of each step's samples.
        """
        pending: deque[tuple[Any, list[Future[Any]]]] = deque()
        for positions in steps:
            pending.append(self._begin(positions, self._wanted(len(pending))))
            if len(pending) > self._plan.prefetch:
                yield self._finished(*pending.popleft())
        while pending:
            yield self._finished(*pending.popleft())

    def render(self, images: Images, params: ViewParams, sizes_K: Sequence[Size] | None = None) -> list[Tensor]:
        """Render rows [B, K] of decoded images, at their own sizes by default, before all that is prefetched: K tensors [B, C, H, W]."""
        canvases = Canvases(Wanted(tuple(sizes_K or params.size)), params.batch_size, self._plan)

        def render_group(start: int, stop: int) -> None:
            canvases.render(images.part(start, stop), params.images(slice(start, stop)), self._plan, start)

        parts = _split(params.batch_size, 2 * self._plan.num_threads)
        self._watch.results([self._crew.submit(render_group, *bounds, urgent=True) for bounds in parts])
        return self._on_device(canvases)

    def _begin(self, positions_B: NDArray[np.int64], wanted: Wanted) -> tuple[Any, list[Future[Any]]]:
        """Have a batch made: where it goes, and the tasks that make it."""
        canvases = Canvases(wanted, len(positions_B), self._plan)
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
            normalized=self._plan.normalize,
        )
        images = Images.joined([group.images for group in groups]) if self._keep_images else None
        return Product(batch, images, canvases.wanted, canvases.slots, self)

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
            waiting.append(self._samples.read(position, place))
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
        opened = [self._samples.opened(position, place) for position, place in places]
        params = self._samples.rows(
            [sample.key for sample in opened], [sample.height for sample in opened], [sample.width for sample in opened]
        )
        denominators = [1] * len(opened)
        if plan.scaled_decode:
            denominators = [self._samples.denominator(sample, params.images([number])) for number, sample in enumerate(opened)]
        sizes = [sample.reduced(denominator) for sample, denominator in zip(opened, denominators, strict=True)]
        rows = canvases.wanted_rows(params, first_image)
        paint = canvases.painter(boxes_in_decoded(rows, torch.tensor(denominators), sizes), plan, first_image)
        group = Group(
            params, [sample.place for sample in opened], [sample.label for sample in opened], Images([], torch.tensor(denominators))
        )
        kept: list[Tensor] = []
        for number, (sample, denominator) in enumerate(zip(opened, denominators, strict=True)):
            pixels = self._samples.pixels(sample, denominator)
            if pixels is not None and pixels.shape[:2] == sizes[number]:
                image = torch.from_numpy(np.require(pixels, requirements=("C", "W")))
                paint(number, image)
            else:
                group, image = self._substituted(group, number, sample, canvases, first_image)
            if self._keep_images:
                kept.append(image)
        return replace(group, images=replace(group.images, pixels=kept) if self._keep_images else group.images.part(0, 0))

    def _substituted(self, group: Group, number: int, opened: Opened, canvases: Canvases, first_image: int) -> tuple[Group, Tensor]:
        """Put another image that can be read in the place of one that cannot be decoded, or the same one if it comes in another size."""
        sample = self._samples.read(opened.position, opened.key, opened.attempt)
        rows = self._samples.rows([sample.key], [sample.height], [sample.width])
        images = Images(list(ImageBatch([sample.pixels])), torch.tensor([sample.denominator]))
        canvases.render(images, rows, self._plan, first_image + number)
        group.index[number], group.labels[number] = sample.place, sample.label
        group.images.denominator_B[number] = sample.denominator
        parts = [group.params.images(slice(0, number)), rows, group.params.images(slice(number + 1, None))]
        return replace(group, params=ViewParams.concatenate(parts)), images.pixels[0]

    def _rendered(self, samples: list[DecodedSample], canvases: Any, first_image: int) -> Group:
        index, keys, labels, arrays, height, width, denominators = (list(column) for column in zip(*samples, strict=True))
        images = Images(list(ImageBatch(arrays)), torch.tensor(denominators))
        params = self._samples.rows(keys, height, width)
        canvases.render(images, params, self._plan, first_image)
        # what is not kept is let go before the batch is complete
        return Group(params, index, labels, images if self._keep_images else images.part(0, 0))


def _split(images: int, parts: int) -> list[tuple[int, int]]:
    """Bounds of so many parts of nearly equal size, or of one an image where there are fewer images."""
    count = min(images, parts)
    bounds = [images * part // count for part in range(count + 1)]
    return list(zip(bounds[:-1], bounds[1:], strict=True))
