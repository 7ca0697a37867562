"""Rendered views, on the 0-1 scale in float32, into a canvas: normalised and rounded as it wants them."""

# Axes: V view, G image of a group, C channel, H W pixels.

from __future__ import annotations

import torch
from torch import Tensor

from hvs_data.kernels.render.canvas import Canvas
from hvs_data.kernels.render.erasing import erase_views
from hvs_data.types.rows import ViewParams


def store_views(x_VGCHW: Tensor, canvas: Canvas, params: ViewParams, *, normalize: bool, first_image: int = 0) -> None:
    """Write views of some images into their places, and erase what their rows say.

    Args:
        x_VGCHW: float32, values 0-1, on the canvas' device. Its memory may be written over.
        params: rows [G, V].
        canvas: receives images ``first_image`` to ``first_image + G - 1``.
        normalize: apply the recipe's mean and standard deviation; else values stay 0-1, or become 0-255 in a uint8 canvas.
    """
    target_VGCHW = canvas.pixels[:, first_image : first_image + x_VGCHW.shape[1]]
    if canvas.flat.dtype == torch.uint8:
        x_VGCHW = (x_VGCHW * 255).round_().clamp_(0, 255)
    if not normalize:
        target_VGCHW.copy_(x_VGCHW)
    else:
        # numbers instead of a tensor of three: nothing has to be sent to the device
        for channel, (mean, std) in enumerate(zip(params.spec.mean, params.spec.std, strict=True)):
            target_VGCHW[:, :, channel].copy_(x_VGCHW[:, :, channel].sub(mean).div_(std))
    erase_views(params, canvas, normalize=normalize, first_image=first_image)


def on_device(value: Tensor, device: torch.device) -> Tensor:
    """A value from the CPU, sent without the CPU waiting: from page-locked memory, as copies from any other wait."""
    return value if device.type == "cpu" else value.pin_memory().to(device, non_blocking=True)
