"""Images as sources and decoders give them."""

# Axes: B image, C channel, H W pixels of an image.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import torch
from torch import Tensor

from hvs_data.errors import HvsError

# Types of images' values, and which value becomes 1 where a recipe does not say.
FULL_RANGE = {torch.uint8: 255.0, torch.uint16: 65535.0, torch.float32: 1.0}
MAX_CHANNELS = 16
_IMAGE_TYPES = (*FULL_RANGE, np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))


class EncodedImage(bytes):
    """An encoded image, and what the dataset that it comes from makes of it when it decodes it.

    Attributes:
        upright: whether it is turned upright as its metadata say.
        mode: Pillow's name of the mode that it is converted to on its way to RGB, such as "L"; None for none.
    """

    upright: bool
    mode: str | None

    def __new__(cls, data: bytes, upright: bool = False, mode: str | None = None) -> EncodedImage:
        image = super().__new__(cls, data)
        image.upright, image.mode = upright, mode
        return image


class ImageBatch(Sequence[Tensor]):
    """Decoded images of any sizes: a sequence of [H, W, C] tensors of one type and number of channels, on one device.

    Args:
        images: arrays or tensors of shape [H, W, C], uint8, uint16 or float32 without NaN, H and W at least 1, C from 1 to 16; three
            channels are RGB. They are kept, not copied, if contiguous (and writable, if arrays).

    Attributes:
        height, width: int64 [B], on the CPU.

    Raises:
        HvsError: an image of another type or shape, or images of different types, channels or devices.
    """

    def __init__(self, images: Sequence[Tensor | np.ndarray]):
        self._images = [self._checked(position, image) for position, image in enumerate(images)]
        devices = {image.device for image in self._images}
        if len(devices) > 1:
            raise HvsError(f"expected images on one device, got {sorted(map(str, devices))}; move them to one of these first")
        shapes = [image.shape for image in self._images]
        kinds = dict.fromkeys((image.dtype, shape[2]) for image, shape in zip(self._images, shapes, strict=True))
        if len(kinds) > 1:
            arrived = ", ".join(f"{dtype} of {channels} channels" for dtype, channels in kinds)
            raise HvsError(f"expected images of one type and number of channels, got {arrived}; convert them to one of these first")
        self.height, self.width = (torch.from_numpy(np.array([shape[axis] for shape in shapes], dtype=np.int64)) for axis in (0, 1))

    @staticmethod
    def _checked(position: int, image: Tensor | np.ndarray) -> Tensor:
        known = isinstance(image, (Tensor, np.ndarray))
        shape = image.shape if known else ()
        if len(shape) != 3 or image.dtype not in _IMAGE_TYPES or shape[2] > MAX_CHANNELS or 0 in shape:
            arrived = f"{image.dtype} {tuple(shape)}" if known else type(image).__name__
            raise HvsError(
                f"image {position}: expected uint8, uint16 or float32 of shape [H, W, C] with H, W >= 1 and C from 1 to {MAX_CHANNELS}, "
                f"got {arrived}; convert it first"
            )
        # from_numpy refuses negative strides and warns of read-only arrays, such as those of Pillow images
        return image.contiguous() if isinstance(image, Tensor) else torch.from_numpy(np.require(image, requirements=("C", "W")))

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._images)

    @overload
    def __getitem__(self, position: int) -> Tensor: ...

    @overload
    def __getitem__(self, position: slice) -> ImageBatch: ...

    def __getitem__(self, position: int | slice) -> Tensor | ImageBatch:
        if isinstance(position, slice):
            return ImageBatch(self._images[position])
        return self._images[position]

    @property
    def device(self) -> torch.device:
        return self._images[0].device if self._images else torch.device("cpu")

    @property
    def channels(self) -> int | None:
        """C; None of no images."""
        return self._images[0].shape[2] if self._images else None

    def __repr__(self) -> str:
        return f"ImageBatch({len(self)} images, {sum(image.numel() for image in self._images) / 2**20:.1f} MiB, {self.device})"
