"""The operations behind the resize, for many views at once: Kornia's functions, each on the views that need it.

Kornia's own jitter takes one order of the operations for a whole batch. Here every view has an order of its own, so at each of its four
positions views are taken together by operation, and blurred views by the blur's radius. Which views these are is known from rows, on the
CPU: nothing is asked of the device. Views at whose factor nothing changes are left alone.
"""

# Axes: N view of any image, C channel, H W pixels, K taps.

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from kornia.color import rgb_to_grayscale
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_hue,
    adjust_saturation_with_gray_subtraction,
    solarize,
)
from kornia.filters import filter2d_separable
from torch import Tensor

from hvs_data.pipelines.dali_rows import NEUTRAL, Rows
from hvs_data.pipelines.storing import on_device


def coloured(x_N3HW: Tensor, rows: Rows, solarize_threshold: float) -> Tensor:
    """Jitter, grey, blur and solarize.

    Args:
        x_N3HW: float32, values 0-1. It is written over.
        rows: of these views.
        solarize_threshold: on the 0-1 scale.

    Returns:
        the same tensor.
    """
    for position in range(4):
        for operation, adjust in enumerate(_JITTER):
            factor_N = rows.factor_N4[:, operation]
            chosen_N = (rows.order_N4[:, position] == operation) & (factor_N != NEUTRAL[operation])
            _apply(x_N3HW, chosen_N, adjust, factor_N)
    _apply(x_N3HW, rows.gray_N, lambda x_n3HW: rgb_to_grayscale(x_n3HW).expand(-1, 3, -1, -1))
    blurred_N = rows.sigma_N > 0
    for radius in rows.radius_N[blurred_N].unique().tolist():
        of_radius_N = blurred_N & (rows.radius_N == radius)
        _apply(x_N3HW, of_radius_N, _blur, gaussian_weights(rows.sigma_N, radius))
    # a tensor on the CPU, which every device takes as a number; Kornia would send a number to the device
    threshold = torch.tensor(solarize_threshold, dtype=x_N3HW.dtype)
    _apply(x_N3HW, rows.solarize_N, lambda x_n3HW: solarize(x_n3HW, threshold))
    return x_N3HW


def _apply(x_N3HW: Tensor, chosen_N: Tensor, change: Callable[..., Tensor], *arguments: Tensor) -> None:
    """Change some of the views in place; of the arguments, float [N, ...] on the CPU, the change gets those of these views."""
    index_n = chosen_N.nonzero().squeeze(1)
    if not len(index_n):
        return
    arguments_n = [on_device(argument[index_n].to(x_N3HW.dtype), x_N3HW.device) for argument in arguments]
    if len(index_n) == len(x_N3HW):
        x_N3HW.copy_(change(x_N3HW, *arguments_n))
        return
    index_n = on_device(index_n, x_N3HW.device)
    x_N3HW.index_copy_(0, index_n, change(x_N3HW.index_select(0, index_n), *arguments_n))


# --- jitter --------------------------------------------------------------------------------------------------------------


def _adjust_hue_by_turns(x_n3HW: Tensor, turns_n: Tensor) -> Tensor:
    return adjust_hue(x_n3HW, turns_n * (2 * math.pi))


# By the number that rows have for it. Of Kornia's several, those that are defined as Pillow's and torchvision's: brightness multiplies,
# contrast blends with the view's mean grey, saturation with each pixel's grey (ITU-R BT.601).
_JITTER = (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_saturation_with_gray_subtraction,
    _adjust_hue_by_turns,
)


# --- blur ----------------------------------------------------------------------------------------------------------------


def gaussian_weights(sigma_N: Tensor, radius: int) -> Tensor:
    """Weights of a normalised Gaussian at whole distances from -radius to radius.

    Args:
        sigma_N: float64; a sigma of 0 gives NaN.

    Returns:
        float64 [N, 2 * radius + 1].
    """
    offset_K = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weight_NK = torch.exp(-((offset_K / sigma_N[:, None]) ** 2) / 2)
    return weight_NK / weight_NK.sum(dim=1, keepdim=True)


def _blur(x_n3HW: Tensor, weight_nK: Tensor) -> Tensor:
    return filter2d_separable(x_n3HW, weight_nK, weight_nK, border_type="reflect")
