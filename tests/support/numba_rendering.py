"""Renders with the Numba kernel into watched memory, and says what the reference makes of the same rows."""

# Axes: B image, V view, C channel, H W pixels.

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hvs_data.arguments.sizes import Size, height_width
from hvs_data.kernels.render.canvas import Canvas, count_elements
from hvs_data.kernels.render.numba.render import Job, render_one
from hvs_data.kernels.render.reference import normalize_pixels, posterize, render_reference, solarize
from hvs_data.types import ViewParams
from render_bounds import assert_within, normalize_error, posterize_error, row_error, solarize_error, unit_roundoff

GUARD = 256
# Of a blur's weight, the kernel cuts off what lies beyond four standard deviations: less than 6.4e-5 an axis (sum of the tail, below the
# integral from 4 sigma on, over a sum of all weights that is never below its own integral). What is left is scaled up to sum to one,
# so that values of 0 to 1 move by at most that share, once an axis.
BLUR_CUTOFF = 2 * 6.4e-5


def rendered(
    images: Sequence[Tensor],
    params: ViewParams,
    size: Size,
    dtype: torch.dtype = torch.float32,
    *,
    normalize: bool | None = None,
    channels_last: bool = False,
    image_major: bool = False,
    order: Iterable[int] | None = None,
) -> Tensor:
    """Pixels [B, V, 3, H, W] by the kernel, checked for having been written, all of them and nothing beside them.

    Args:
        normalize: None: whatever the dtype can hold.
        order: in which the images are rendered.
    """

    def render(canvas: Canvas, normalize: bool) -> None:
        job = Job.make(params, canvas, normalize=normalize)
        for position in range(len(images)) if order is None else order:
            render_one(images[position], position, job)

    shape = params.num_views, len(images), size
    return watched(render, *shape, dtype, params.spec.channels, normalize=normalize, channels_last=channels_last, image_major=image_major)


def watched(
    render: Callable[[Canvas, bool], None],
    views: int,
    count: int,
    size: Size,
    dtype: torch.dtype,
    channels: int = 3,
    *,
    normalize: bool | None,
    channels_last: bool,
    image_major: bool,
) -> Tensor:
    """Pixels [B, V, 3, H, W] of a function that renders into a canvas, normalised or not, checked as in :func:`rendered`."""
    normalize = dtype.is_floating_point if normalize is None else normalize
    elements = count_elements(views, count, size, channels)
    # uint8 has no NaN: what stays unwritten shows in one of two pre-filled memories
    fills = [float("nan")] if dtype.is_floating_point else [0, 255]
    pixels = []
    for fill in fills:
        memory = torch.full((elements + 2 * GUARD,), fill, dtype=dtype)
        canvas = Canvas.on(memory[GUARD:-GUARD], views, count, size, channels, channels_last=channels_last, image_major=image_major)
        render(canvas, normalize)
        guards = torch.cat([memory[:GUARD], memory[-GUARD:]])
        assert guards.isnan().all() if dtype.is_floating_point else (guards == fill).all(), "wrote beside the canvas"
        pixels.append(canvas.pixels.transpose(0, 1))
    assert not pixels[0].isnan().any() if dtype.is_floating_point else torch.equal(*pixels), "left pixels unwritten"
    return pixels[0]


def judged(images: Sequence[Tensor], params: ViewParams, size: Size, *, normalize: bool = True, **changes: Any) -> tuple[Tensor, Tensor]:
    """The reference's pixels in float64, and how far the kernel's float32 arithmetic may be off, both [B, V, 3, H, W].

    Args:
        changes: of another kernel: arguments of ``row_error`` that differ from this one's.
    """
    # a row of the view is summed in float32, all rows in float64
    sources: dict[str, Any] = {"mean_terms": height_width(size)[1], "blur_gap": BLUR_CUTOFF, **changes}
    # blurred and not yet solarized: how near a pixel is to the threshold, or to a step, decides its bound
    before = render_reference(images, replace(params, solarize=torch.zeros_like(params.solarize), posterize=None), size, normalize=False)
    spec, expected, bounds = params.spec, before.clone(), torch.empty_like(before)
    for b in range(params.batch_size):
        for v in range(params.num_views):
            error = row_error(params, b, v, size, torch.float32, **sources)
            bound: Tensor | float = error
            if params.solarize[b, v]:
                bound = solarize_error(before[b, v], error, spec.solarize_threshold, torch.float32)
                expected[b, v] = solarize(before[b, v], spec.solarize_threshold)
            if params.posterize is not None and params.posterize[b, v] < 8:
                bits = int(params.posterize[b, v])
                bound = posterize_error(expected[b, v], bound, bits, torch.float32)
                expected[b, v] = posterize(expected[b, v], bits)
            if normalize:
                expected[b, v] = normalize_pixels(expected[b, v], spec.mean, spec.std)
                bound = normalize_error(bound, spec.std, torch.float32)
            bounds[b, v] = bound
    return expected, bounds


def stored(expected: Tensor, bound: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Expected pixels and bound after the kernel has written them in a dtype."""
    if dtype == torch.float32:
        return expected, bound
    if dtype == torch.uint8:
        # the product with 255 and the sum with 1/2, then what the conversion cuts off
        return expected * 255, 0.5 + 255 * (bound + 3 * unit_roundoff(torch.float32))
    smallest = torch.finfo(dtype).tiny * torch.finfo(dtype).eps
    return expected, bound + unit_roundoff(dtype) * (expected.abs() + bound) + smallest / 2


def assert_judged(images: Sequence[Tensor], params: ViewParams, size: Size, **changes: Any) -> None:
    """The kernel's float32 views are the reference's."""
    assert_within(rendered(images, params, size), *judged(images, params, size, **changes))
