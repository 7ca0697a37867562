"""Rows as one list of views, in rendered pixels: what a batch of views is computed from."""

# Axes: G image of a group, V view slot, N view of any image.

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from hvs_data.arguments.sizes import Size, height_width
from hvs_data.types.rows import ViewParams

# The factor of brightness, contrast, saturation and hue at which nothing changes.
NEUTRAL = (1.0, 1.0, 1.0, 0.0)


@dataclass(frozen=True)
class Rows:
    """N views, slot after slot: view v of image g of G has number ``v * G + g``. All tensors are on the CPU.

    Attributes:
        image_N: int64, the image that each view is of.
        box_N4: int32 (top, left, height, width).
        order_N4: uint8, the sequence of 0 brightness, 1 contrast, 2 saturation, 3 hue.
        factor_N4: float32, of these four.
        flip_N, gray_N, solarize_N: bool.
        sigma_N: float64, of the blur, in rendered pixels; 0 = no blur.
        radius_N: int64, taps on each side of the blur's centre.
    """

    image_N: Tensor
    box_N4: Tensor
    order_N4: Tensor
    factor_N4: Tensor
    flip_N: Tensor
    gray_N: Tensor
    solarize_N: Tensor
    sigma_N: Tensor
    radius_N: Tensor

    @staticmethod
    def of(params: ViewParams, size: Size) -> Rows:
        """Rows [G, V], rendered at a size. As sigma, the blur's radius follows the height: rounded half up, from 1 on, below a side."""

        def flat(value_GV: Tensor) -> Tensor:
            return value_GV.transpose(0, 1).flatten(0, 1)

        height, width = height_width(size)
        slot_height_N = torch.tensor(params.heights).repeat_interleave(params.batch_size)
        # in whole numbers: floor(kernel // 2 * height / slot_height + 1/2)
        scaled_N = (2 * (params.spec.blur_kernel // 2) * height + slot_height_N) // (2 * slot_height_N)
        factors = (params.brightness, params.contrast, params.saturation, params.hue)
        return Rows(
            image_N=torch.arange(params.batch_size).repeat(params.num_views),
            box_N4=flat(params.box),
            order_N4=flat(params.order),
            factor_N4=torch.stack([flat(factor) for factor in factors], dim=1),
            flip_N=flat(params.flip),
            gray_N=flat(params.gray),
            solarize_N=flat(params.solarize),
            sigma_N=flat(params.blur_sigma).double() * height / slot_height_N,
            radius_N=scaled_N.clamp_min(1).clamp_max(min(height, width) - 1),
        )

    def __len__(self) -> int:
        return len(self.image_N)

    def part(self, start: int, stop: int) -> Rows:
        return Rows(*(getattr(self, f.name)[start:stop] for f in fields(self)))
