"""``hvs_data.render``: decoded images and rows in, pixels out."""

# Axes: B image, V view, C channel, H W pixels.

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hvs_data.arguments.sizes import Size, plain_size
from hvs_data.arguments.values import whole_number
from hvs_data.errors import HvsError
from hvs_data.kernels.render.canvas import Canvas, check_dtype, count_elements
from hvs_data.kernels.render.request import check_request
from hvs_data.pipelines.engine import choose_engine
from hvs_data.pipelines.extra_stage import with_extra_stage
from hvs_data.pipelines.stage import ExtraStage, Stage
from hvs_data.threads.share import default_threads
from hvs_data.types.images import ImageBatch
from hvs_data.types.rows import RenderSpec, ViewParams


def render(
    images: ImageBatch | Sequence[Tensor | np.ndarray],
    params: ViewParams,
    size: Size | None = None,
    engine: str = "auto",
    dtype: torch.dtype = torch.float32,
    *,
    normalize: bool | None = None,
    channels_last: bool = False,
    num_threads: int | None = None,
    extra_stage: ExtraStage | Stage | None = None,
) -> Tensor:
    """Render every view of every image.

    The pixels depend on the images, the rows, the size and the engine, and not on the number of threads.

    Args:
        images: B decoded images: an ImageBatch, or tensors or arrays [H, W, C] as it takes them.
        params: rows [B, V], drawn with the sizes of these images.
        size: of every view in pixels, one side or (height, width); None takes the slots' own size, which must then be one.
        engine: "auto", "fused", "dali-kornia" or "reference".
        dtype: float32, float16, bfloat16 or uint8, whose 256 levels are all that is left of images of more bits.
        normalize: True applies the recipe's mean and standard deviation, False gives values of 0-1, or 0-255 as uint8. None is True
            for floating types and False for uint8.
        channels_last: keep each view's channels innermost in memory; the shape stays the same.
        num_threads: images rendered at a time on the CPU; None = this process's fair share of the CPUs, see :class:`hvs_data.ViewLoader`.
        extra_stage: a function or module of float32 [N, C, H, W] RGB, values 0-1, such as a Kornia augmentation: called after the last
            operation and before normalisation, with one view at a time unless a :class:`hvs_data.Stage` says otherwise. What it draws
            depends on the rows' ``key``.

    Returns:
        [B, V, C, H, W], on the images' device; each image's views are contiguous.

    Raises:
        HvsError: rows that do not fit the images, an unknown or unavailable engine, or arguments that mean nothing.
    """
    batch = images if isinstance(images, ImageBatch) else ImageBatch(images)
    size = own_size(params) if size is None else plain_size(size) or size  # what is no size is refused below
    check_request(batch, params, size)
    check_dtype(dtype)
    normalize = checked_normalize(normalize, dtype)
    if num_threads is not None and (whole_number(num_threads) or 0) < 1:
        raise HvsError(f"num_threads must be a whole number of at least 1, got {num_threads!r}; leave it out for a fair share of the CPUs")
    chosen = with_extra_stage(choose_engine(engine, batch.device, _spec_of(batch, params), resizes=params.resized is not None), extra_stage)
    flat = torch.empty(count_elements(params.num_views, len(batch), size, params.spec.channels), dtype=dtype, device=batch.device)
    canvas = Canvas.on(flat, params.num_views, len(batch), size, params.spec.channels, channels_last=channels_last, image_major=True)

    def render_part(start: int, stop: int) -> None:
        rows = params.images(slice(start, stop))
        chosen.render_group(batch[start:stop], rows, canvas, normalize=normalize, first_image=start)

    threads = 1 if batch.device.type != "cpu" else min(len(batch), num_threads or default_threads())
    if threads > 1:
        # several parts a thread, as images differ in cost
        bounds = [len(batch) * part // (4 * threads) for part in range(4 * threads + 1)]
        with ThreadPoolExecutor(threads, thread_name_prefix="hvs-render") as pool:
            list(pool.map(render_part, bounds[:-1], bounds[1:]))
    elif len(batch):
        render_part(0, len(batch))
    return canvas.pixels.transpose(0, 1)


def _spec_of(batch: ImageBatch, params: ViewParams) -> RenderSpec:
    """The rows' spec, with the range of the images' own type where they are of more than 8 bits and it says none."""
    if params.spec.value_range is not None or not len(batch) or batch[0].dtype == torch.uint8:
        return params.spec
    return replace(params.spec, value_range=params.spec.ranges(batch[0].dtype))


def own_size(params: ViewParams) -> Size:
    """The one size in pixels at which the recipe wants all slots.

    Raises:
        HvsError: slots of several sizes.
    """
    sizes = list(dict.fromkeys(params.size))
    if len(sizes) != 1:
        raise HvsError(
            f"expected a size, as the slots of these rows want different ones ({sizes}); pass size=, or render the roles apart: "
            "params.views(params.slots(role))"
        )
    return sizes[0]


def checked_normalize(normalize: bool | None, dtype: torch.dtype) -> bool:
    """Whether to normalise: by default wherever the dtype can hold the result.

    Raises:
        HvsError: normalised uint8.
    """
    if normalize and dtype == torch.uint8:
        raise HvsError("normalised views do not fit into uint8; pass normalize=False for 0-255, or a floating dtype")
    return dtype != torch.uint8 if normalize is None else normalize
