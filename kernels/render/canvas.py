"""The memory that a batch of views is rendered into."""

# Axes: V view slot, B image, C channel, H W pixels.

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hvs_data.arguments.sizes import Size, height_width, size_of
from hvs_data.errors import HvsError

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.uint8)


def check_dtype(dtype: torch.dtype) -> None:
    """Raises HvsError for a dtype that views are not rendered in."""
    if dtype not in DTYPES:
        raise HvsError(f"dtype must be one of {', '.join(map(str, DTYPES))}, got {dtype}; convert the rendered views instead")


def count_elements(views: int, images: int, size: Size, channels: int = 3) -> int:
    """Elements of V views of B images of a size."""
    return math.prod((views, images, channels, *height_width(size)))


@dataclass(frozen=True)
class Canvas:
    """Pixels of V views of B images.

    Attributes:
        flat: one-dimensional storage, all of it in use.
        pixels: [V, B, C, H, W] view of it.
    """

    flat: Tensor
    pixels: Tensor

    @staticmethod
    def empty(
        views: int,
        images: int,
        size: Size,
        dtype: torch.dtype,
        *,
        channels: int = 3,
        channels_last: bool = False,
        image_major: bool = False,
        pin_memory: bool = False,
    ) -> Canvas:
        """Uninitialised pixels on the CPU.

        Args:
            views, images, size: V, B, and H and W in pixels.
            dtype: float32, float16, bfloat16 or uint8.
            channels: C.
            channels_last, image_major: as in :meth:`on`.
            pin_memory: page-locked, for asynchronous copies to a CUDA device.
        """
        check_dtype(dtype)
        flat = torch.empty(count_elements(views, images, size, channels), dtype=dtype, pin_memory=pin_memory)
        return Canvas.on(flat, views, images, size, channels, channels_last=channels_last, image_major=image_major)

    @staticmethod
    def on(
        flat: Tensor, views: int, images: int, size: Size, channels: int = 3, *, channels_last: bool = False, image_major: bool = False
    ) -> Canvas:
        """A canvas on memory that is there: the first V * B * C * H * W elements of ``flat``.

        Args:
            channels_last: store each view's channels innermost (``torch.channels_last`` for every slot).
            image_major: keep an image's views together, instead of view after view, in which order each slot's batch and all
                slots together are contiguous.

        Raises:
            HvsError: memory of another dtype or form, or too little of it.
        """
        check_dtype(flat.dtype)
        elements = count_elements(views, images, size, channels)
        if flat.ndim != 1 or not flat.is_contiguous() or len(flat) < elements:
            raise HvsError(
                f"{views} views of {images} images of size {size} need {elements} elements in a row, got memory of shape "
                f"{tuple(flat.shape)} and strides {flat.stride()}"
            )
        flat = flat[:elements]
        outer = (images, views) if image_major else (views, images)
        height, width = height_width(size)
        inner = (height, width, channels) if channels_last else (channels, height, width)
        pixels = flat.view(*outer, *inner)
        pixels = pixels.permute(0, 1, 4, 2, 3) if channels_last else pixels
        return Canvas(flat, pixels.transpose(0, 1) if image_major else pixels)

    @property
    def size(self) -> Size:
        return size_of(*self.pixels.shape[-2:])

    def copied(self, copy: Callable[[Tensor], Tensor]) -> Canvas:
        """The same pixels in the memory that ``copy`` makes of ``flat``, of the same length."""
        flat = copy(self.flat)
        return Canvas(flat, flat.as_strided(self.pixels.shape, self.pixels.stride()))

    def views(self) -> list[Tensor]:
        """One [B, C, H, W] tensor a slot."""
        return list(self.pixels.unbind(0))
