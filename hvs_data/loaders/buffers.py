"""Memory for batches, used again once nothing refers to it any more."""

from __future__ import annotations

import weakref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class BufferPool:
    """Hands out tensors; the memory behind one is handed out again when every tensor, view and array made of it is gone.

    Taking fresh pages from the operating system costs about as much as rendering into them. Not to be used from several threads at
    once. The tensors may be dropped by any thread.

    Args:
        spare: how many unused blocks are kept at most.
    """

    def __init__(self, spare: int):
        self._spare = spare
        # blocks, and what is behind the tensors that were last made of them
        self._blocks: list[tuple[NDArray[np.uint8], weakref.ref[NDArray[np.uint8]]]] = []

    def take(self, elements: int, dtype: torch.dtype) -> Tensor:
        """Uninitialised, one-dimensional, of this many elements, on the CPU."""
        size = elements * dtype.itemsize
        block = self._idle_block(size)
        if block is None:
            block = np.empty(max(size, 1), np.uint8)
        # a tensor's storage keeps the array that it was made of, which is this one and not the block
        handle = block[:size]
        self._blocks.append((block, weakref.ref(handle)))
        return torch.from_numpy(handle).view(dtype)

    def _idle_block(self, size: int) -> NDArray[np.uint8] | None:
        """Take out the smallest unused block that holds this many bytes without wasting as many; give up unused ones in excess."""
        used, idle = [], []
        for entry in self._blocks:
            (idle if entry[1]() is None else used).append(entry)
        fitting = [position for position, (block, _) in enumerate(idle) if size <= block.nbytes <= 2 * size]
        best = min(fitting, key=lambda position: idle[position][0].nbytes, default=None)
        chosen = None if best is None else idle.pop(best)[0]
        self._blocks = used + idle[: self._spare]
        return chosen
