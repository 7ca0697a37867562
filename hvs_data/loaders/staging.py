"""Host memory that collects a batch's decoded images, from several threads, for one copy to the device."""

# Axes: H W pixels, C channel.

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ALIGNMENT = 16  # bytes, of every image
BLOCK_BYTES = 2**26  # the least that is taken at a time


class Place(NamedTuple):
    """Where an image lies.

    Attributes:
        block: which piece of memory.
        start: its first byte there.
        shape: H, W, C.
        dtype: of its values.
    """

    block: int
    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.uint8

    def within(self, blocks: Sequence[Tensor]) -> Tensor:
        """The image in a copy of all pieces, [H, W, C]."""
        length = math.prod(self.shape) * self.dtype.itemsize
        return blocks[self.block][self.start : self.start + length].view(self.dtype).view(self.shape)


class Staging:
    """Images of any sizes side by side in a few large pieces of memory; in one, if it is known how much they take.

    Args:
        take: gives uint8 memory of at least so many bytes.
        expected: bytes of all images together, as far as known.
    """

    def __init__(self, take: Callable[[int], Tensor], expected: int = 0):
        self._take = take
        self._next_size = max(expected, BLOCK_BYTES)
        self._lock = threading.Lock()
        self._blocks: list[Tensor] = []
        self._used: list[int] = []

    def add(self, pixels_HWC: NDArray[Any]) -> Place:
        """Copy an image; from any thread."""
        with self._lock:
            size = -(-pixels_HWC.nbytes // ALIGNMENT) * ALIGNMENT
            if not self._blocks or self._used[-1] + size > len(self._blocks[-1]):
                self._blocks.append(self._take(max(size, self._next_size)))
                self._used.append(0)
                self._next_size = BLOCK_BYTES
            block, start = len(self._blocks) - 1, self._used[-1]
            self._used[-1] += size
            memory = self._blocks[-1]
        torch_pixels = torch.from_numpy(np.require(pixels_HWC, requirements=("C", "W")))
        place = Place(block, start, pixels_HWC.shape, torch_pixels.dtype)
        place.within([*[memory] * block, memory]).copy_(torch_pixels)
        return place

    @property
    def size(self) -> int:
        """Bytes in use."""
        return sum(self._used)

    def blocks(self) -> list[Tensor]:
        """The used part of each piece; once all images are there."""
        return [block[:used] for block, used in zip(self._blocks, self._used, strict=True)]
