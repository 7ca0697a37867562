"""Dropped channels and erased rectangles of rendered views: the last things that are done to them, after normalisation."""

# Axes: B image, V view, C channel, H W pixels of a view.

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hvs_data.arguments.sizes import height_width
from hvs_data.errors import HvsError
from hvs_data.kernels.render.canvas import Canvas
from hvs_data.types.rows import NOISE, ViewParams

# Keeps this noise apart from what a stage of the user's own draws with the same key.
_STREAM = 0x2B0A5C91


def noise(key: int, channels: int, height: int, width: int) -> Tensor:
    """Standard normal numbers of a view's key: float32 [C, H, W] on the CPU, the same to float32's last digits everywhere."""
    return torch.randn(channels, height, width, generator=torch.Generator().manual_seed(key ^ _STREAM))


def scaled_box(params: ViewParams, b: int, v: int, height: int, width: int) -> tuple[int, int, int, int]:
    """What is erased of view v of image b, (top, left, height, width), where it is rendered with this height and width.

    Edges are those at the slot's own size, scaled and rounded half up.
    """
    assert params.erase is not None
    top, left, erased_height, erased_width = params.erase[b, v].tolist()

    def edge(place: int, own: int, length: int) -> int:
        return (2 * place * length + own) // (2 * own)

    own_height, own_width = height_width(params.size[v])
    above, before = edge(top, own_height, height), edge(left, own_width, width)
    below, behind = edge(top + erased_height, own_height, height), edge(left + erased_width, own_width, width)
    return above, before, below - above, behind - before


def eraser(params: ViewParams, canvas: Canvas, *, normalize: bool, first_image: int = 0) -> Callable[[int], None]:
    """A function that drops and erases what rows [B, V] say of a rendered image, by its number b. A device is not waited for.

    Args:
        canvas: holds the images ``first_image`` to ``first_image + B - 1``.
        normalize: whether its values are normalised. If not, what stands in place of the erased pixels is what normalising them makes the
            recipe's value, cut off in uint8.

    Raises:
        HvsError: noise for rows without keys.
    """
    if params.erase is None and params.dropped is None:
        return lambda b: None
    spec, (channels, height, width) = params.spec, canvas.pixels.shape[2:]
    if params.erase is not None and spec.erase_value == NOISE and params.key is None:
        raise HvsError("erasing with noise expects rows with keys, as sample_views draws them, got rows with key=None; write key= [B, V]")
    value = 0.0 if spec.erase_value == NOISE else spec.erase_value
    value_C11 = torch.broadcast_to(torch.tensor(value), (channels,))[:, None, None]
    std_C11, mean_C11 = (torch.tensor(values)[:, None, None] for values in (spec.std, spec.mean))

    def stored(x_CHW: Tensor) -> Tensor:
        x_CHW = x_CHW if normalize else x_CHW * std_C11 + mean_C11
        return (x_CHW * 255).round_().clamp_(0, 255) if canvas.flat.dtype == torch.uint8 else x_CHW

    def drop(b: int) -> None:
        for v, lost in enumerate([] if params.dropped is None else params.dropped[b].tolist()):
            for channel in (c for c in range(channels) if lost >> c & 1):
                canvas.pixels[v, first_image + b, channel] = -spec.mean[channel] / spec.std[channel] if normalize else 0.0

    def erase(b: int) -> None:
        drop(b)
        for v in [] if params.erase is None else params.erase[b, :, 2].nonzero().flatten().tolist():
            top, left, erased_height, erased_width = scaled_box(params, b, v, height, width)
            x_CHW = value_C11
            if spec.erase_value == NOISE:
                x_CHW = noise(int(params.key[b, v]), channels, erased_height, erased_width)  # type: ignore[index]
            x_CHW = stored(x_CHW)
            if canvas.flat.is_cuda:
                x_CHW = x_CHW.pin_memory()  # copies from any other memory wait
            rows, columns = slice(top, top + erased_height), slice(left, left + erased_width)
            canvas.pixels[v, first_image + b, :, rows, columns] = x_CHW.to(canvas.flat.device, non_blocking=True)

    return erase


def erase_views(params: ViewParams, canvas: Canvas, *, normalize: bool, first_image: int = 0) -> None:
    """Drop and erase what rows [B, V] say of all their images; arguments as of :func:`eraser`."""
    if params.erase is not None or params.dropped is not None:
        erase = eraser(params, canvas, normalize=normalize, first_image=first_image)
        for b in range(params.batch_size):
            erase(b)
