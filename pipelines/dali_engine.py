"""The engine "dali-kornia": DALI cuts, resizes and flips, Kornia colours and blurs, on the CPU or on a CUDA device."""

# Axes: G image of a group, V view slot, N view of any image, C channel, H W pixels.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from hvs_data.arguments.sizes import Size, height_width
from hvs_data.kernels.render.canvas import Canvas, count_elements
from hvs_data.pipelines.dali_colour import coloured
from hvs_data.pipelines.dali_coverage import frame_width
from hvs_data.pipelines.dali_resize import ResizerPool
from hvs_data.pipelines.dali_rows import Rows
from hvs_data.pipelines.finishing import finish_views
from hvs_data.pipelines.storing import store_views
from hvs_data.types.rows import ViewParams

# Bytes of views in float32 that are worked on together, and of what DALI holds for them, see ``_held``: little enough for a cache on the
# CPU, much enough to keep a GPU busy.
VIEW_BYTES = {"cpu": 2**24, "cuda": 2**29}
HELD_BYTES = {"cpu": 2**26, "cuda": 2**30}
# Views of any size that go to DALI together: it takes memory for every place in a batch.
MAX_VIEWS = 1024

_POOL = ResizerPool()


class DaliKorniaEngine:
    """Implements :class:`hvs_data.pipelines.engine.Engine`. May be used from several threads at once.

    On a CUDA device, work is queued on the calling thread's current stream, and the CPU does not wait for it.
    """

    name = "dali-kornia"

    def render_group(self, images: Sequence[Tensor], params: ViewParams, canvas: Canvas, *, normalize: bool, first_image: int = 0) -> None:
        if not len(images) or not params.num_views:
            return
        device = images[0].device
        views = min(MAX_VIEWS, VIEW_BYTES[device.type] // (4 * count_elements(1, 1, canvas.size)))
        together = max(1, views // params.num_views)
        # DALI takes a device's default stream for that of the thread's current device; autocast would round what is summed
        current = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
        with current, torch.no_grad(), torch.autocast(device.type, enabled=False):
            for start in range(0, len(images), together):
                some = slice(start, min(start + together, len(images)))
                rows = params.images(some)
                x_VG3HW = _rendered(images[some], rows, canvas.size, max_views=together * params.num_views)
                finish_views(x_VG3HW, rows)
                store_views(x_VG3HW, canvas, rows, normalize=normalize, first_image=first_image + start)


def _rendered(images: Sequence[Tensor], params: ViewParams, size: Size, max_views: int) -> Tensor:
    """float32 [V, G, 3, H, W], values 0-1."""
    rows, spec, device = Rows.of(params, size), params.spec, images[0].device
    x_N3HW = torch.empty(len(rows), 3, *height_width(size), device=device)
    for start, stop in _parts(_held(images, rows, size, spec.interpolation), HELD_BYTES[device.type]):
        with _POOL.lend(size, spec.interpolation, device, max_views) as resizer:
            x_N3HW[start:stop] = resizer.views(images, rows.part(start, stop))
    return coloured(x_N3HW, rows, spec.solarize_threshold).unflatten(0, (params.num_views, len(images)))


def _held(images: Sequence[Tensor], rows: Rows, size: Size, interpolation: str) -> list[int]:
    """Bytes that each view takes in DALI: its framed box, which it holds twice, and on a device a copy of its whole image, which
    ``no_copy`` spares on the CPU only."""
    framed_N2 = rows.box_N4[:, 2:].long() + 2 * frame_width(rows.box_N4[:, 2:], size, interpolation)
    copied_G = torch.tensor([image.numel() if image.is_cuda else 0 for image in images])
    return (3 * framed_N2.prod(dim=1) + copied_G[rows.image_N]).tolist()


def _parts(held_N: Sequence[int], max_bytes: int) -> Iterator[tuple[int, int]]:
    """Bounds of parts for whose views no more bytes than that are held, unless there is one view only."""
    start = held = 0
    for stop, its_bytes in enumerate(held_N):
        if stop > start and held + its_bytes > max_bytes:
            yield start, stop
            start, held = stop, 0
        held += its_bytes
    yield start, len(held_N)
