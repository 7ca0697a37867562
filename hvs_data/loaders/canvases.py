"""Decoded images, and the memory that all views of a batch are rendered into."""

# Axes: B image of a batch, G image of a group, V view slot, K rendered view, C channel, H W pixels.

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hvs_data.arguments.sizes import Size
from hvs_data.kernels.render.canvas import Canvas, count_elements
from hvs_data.loaders.plan import Plan
from hvs_data.loaders.wanted import Wanted
from hvs_data.pipelines.scaled import boxes_in_decoded
from hvs_data.types.rows import ViewParams


@dataclass(frozen=True)
class Images:
    """Decoded images, perhaps smaller than they are.

    Attributes:
        pixels: [H, W, C] each, as an ImageBatch holds them.
        denominator_B: int64, the fraction of its full size, in whose pixels boxes count, to which each was decoded.
    """

    pixels: Sequence[Tensor]
    denominator_B: Tensor

    @staticmethod
    def joined(parts: Sequence[Images]) -> Images:
        return Images([image for part in parts for image in part.pixels], torch.cat([part.denominator_B for part in parts]))

    def part(self, start: int, stop: int) -> Images:
        return Images(self.pixels[start:stop], self.denominator_B[start:stop])


class Canvases:
    """Memory for K views of B images, one canvas for every size among them.

    Args:
        wanted: which views of an image, and their sizes.
        images: B.
        plan: how they are rendered.

    Attributes:
        wanted: as given.
        slots: int64 [B, K], which slots were rendered; None for all of them.
    """

    def __init__(self, wanted: Wanted, images: int, plan: Plan):
        sizes_K = wanted.sizes
        slots_of = {size: [slot for slot, its in enumerate(sizes_K) if its == size] for size in dict.fromkeys(sizes_K)}
        self.wanted = wanted
        self._views = len(sizes_K)
        self.slots = None if wanted.narrowing is None else torch.empty(images, self._views, dtype=torch.int64)
        self._parts = [
            (slots, _empty_canvas(len(slots), images, size, plan)) for size, slots in slots_of.items()
        ]  # fmt: skip

    def render(self, images: Images, params: ViewParams, plan: Plan, first_image: int) -> None:
        """Render the wanted ones of rows [G, V] into images ``first_image`` to ``first_image + G - 1``."""
        params = boxes_in_decoded(self.wanted_rows(params, first_image), images.denominator_B, [image.shape[:2] for image in images.pixels])
        for rows, canvas in self._rows_of_parts(params):
            plan.engine.render_group(images.pixels, rows, canvas, normalize=plan.normalize, first_image=first_image)

    def wanted_rows(self, params: ViewParams, first_image: int) -> ViewParams:
        """The wanted ones of rows [G, V], boxes in pixels of the full size: rows [G, K]."""
        slots_GK = self.wanted.slots(params)
        if slots_GK is None or self.slots is None:
            return params
        self.slots[first_image : first_image + len(slots_GK)] = slots_GK
        return params.take(slots_GK)

    def painter(self, params: ViewParams, plan: Plan, first_image: int) -> Callable[[int, Tensor], None]:
        """A function that renders all views of an image, by its number in the group, for an engine that takes images one by one.

        Args:
            params: wanted rows [G, K], boxes in decoded pixels.
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

    def views(self, copy: Callable[[Tensor], Tensor] | None = None) -> list[Tensor]:
        """K tensors [B, C, H, W], in memory that ``copy`` makes of each canvas' own, as one of that, or in that itself."""
        canvases = [(slots, canvas if copy is None else canvas.copied(copy)) for slots, canvas in self._parts]
        by_slot = {slot: view for slots, canvas in canvases for slot, view in zip(slots, canvas.views(), strict=True)}
        return [by_slot[slot] for slot in range(self._views)]


def _empty_canvas(views: int, images: int, size: Size, plan: Plan) -> Canvas:
    elements = count_elements(views, images, size, plan.recipe.channels)
    on_device = plan.device.type == "cuda"
    flat = torch.empty(elements, dtype=plan.dtype, device=plan.device) if on_device else plan.buffers.take(elements, plan.dtype)
    return Canvas.on(flat, views, images, size, plan.recipe.channels, channels_last=plan.channels_last)
