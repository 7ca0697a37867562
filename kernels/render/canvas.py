"""The memory that a batch of views is rendered into."""

# Axes: V view slot, B image, C channel, S side.

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hvs_data.errors import HvsError

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.uint8)


@dataclass(frozen=True)
class Canvas:
    """Pixels of V views of B images, view after view, so that each slot's batch and all slots together are contiguous.

    Attributes:
        flat: one-dimensional storage.
        pixels: [V, B, 3, S, S] view of it.
    """

    flat: Tensor
    pixels: Tensor

    @staticmethod
    def empty(views: int, images: int, size: int, dtype: torch.dtype, *, channels_last: bool = False, pin_memory: bool = False) -> Canvas:
        """Uninitialised pixels on the CPU.

        Args:
            views, images, size: V, B, S.
            dtype: float32, float16, bfloat16 or uint8.
            channels_last: store each view's channels innermost (``torch.channels_last`` for every slot).
            pin_memory: page-locked, for asynchronous copies to a CUDA device.
        """
        if dtype not in DTYPES:
            raise HvsError(f"dtype must be one of {', '.join(map(str, DTYPES))}, got {dtype}; convert the rendered views instead")
        flat = torch.empty(views * images * 3 * size * size, dtype=dtype, pin_memory=pin_memory)
        if channels_last:
            return Canvas(flat, flat.view(views, images, size, size, 3).permute(0, 1, 4, 2, 3))
        return Canvas(flat, flat.view(views, images, 3, size, size))

    @property
    def size(self) -> int:
        return self.pixels.shape[-1]

    def views(self) -> list[Tensor]:
        """One [B, 3, S, S] tensor a slot."""
        return list(self.pixels.unbind(0))
