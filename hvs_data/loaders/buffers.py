"""Memory for batches, used again once nothing refers to it any more."""

from __future__ import annotations

import weakref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvs_data.loaders.forks import ForkSafeLock

ALIGNMENT = 64  # a line of the cache; renderers write whole ones past it


class BufferPool:
    """Hands out tensors; the memory behind one is handed out again when every tensor, view and array made of it is gone.

    Taking fresh pages from the operating system costs more than rendering into them. May be used from several threads at once.

    Args:
        spare: how many unused blocks are kept at most.
    """

    def __init__(self, spare: int):
        self._spare = spare
        self._lock = ForkSafeLock()
        # blocks, and what is behind the tensors that were last made of them
        self._blocks: list[tuple[NDArray[np.uint8], weakref.ref[NDArray[np.uint8]]]] = []

    def take(self, elements: int, dtype: torch.dtype) -> Tensor:
        """Uninitialised, one-dimensional, of this many elements, on the CPU."""
        size = elements * dtype.itemsize
        with self._lock:
            block = self._idle_block(size)
            if block is None:
                block = _aligned(size)
            # a tensor's storage keeps the array that it was made of, which is this one and not the block
            handle = block[:size]
            self._blocks.append((block, weakref.ref(handle)))
        return torch.from_numpy(handle).view(dtype)

    def _idle_block(self, size: int) -> NDArray[np.uint8] | None:
        """Take out the smallest unused block that holds this many bytes without wasting as many; give up unused ones in excess."""
        used: list[tuple[NDArray[np.uint8], weakref.ref[NDArray[np.uint8]]]] = []
        idle: list[tuple[NDArray[np.uint8], weakref.ref[NDArray[np.uint8]]]] = []
        for entry in self._blocks:
            (idle if entry[1]() is None else used).append(entry)
        fitting = [position for position, (block, _) in enumerate(idle) if size <= block.nbytes <= 2 * size]
        best = min(fitting, key=lambda position: idle[position][0].nbytes, default=None)
        chosen = None if best is None else idle.pop(best)[0]
        self._blocks = used + idle[: self._spare]
        return chosen


def _aligned(size: int) -> NDArray[np.uint8]:
    """At least one byte, from a multiple of ``ALIGNMENT`` bytes on. NumPy asks for large pages, where torch does not."""
    memory = np.empty(max(size, 1) + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + max(size, 1)]
