"""Memory for batches, used again once nothing refers to it any more."""

from __future__ import annotations

import sys

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# References to an array that only the pool knows: the pool's list, the loop variable, the argument of getrefcount.
_IDLE = 3


class BufferPool:
    """Hands out tensors; the memory behind one is handed out again when every tensor, view and array made of it is gone.

    Taking fresh pages from the operating system costs about as much as rendering into them. Not to be used from several threads at
    once. The tensors may be dropped by any thread.

    Args:
        spare: how many unused blocks are kept at most.
    """

    def __init__(self, spare: int):
        self._spare = spare
        self._blocks: list[NDArray[np.uint8]] = []

    def take(self, elements: int, dtype: torch.dtype) -> Tensor:
        """Uninitialised, one-dimensional, of at least this many elements, on the CPU."""
        size = elements * dtype.itemsize
        block = self._idle_block(size)
        if block is None:
            block = np.empty(max(size, 1), np.uint8)
            self._blocks.append(block)
        # from_numpy keeps a reference to the array for as long as the tensor's storage lives
        return torch.from_numpy(block)[:size].view(dtype)

    def _idle_block(self, size: int) -> NDArray[np.uint8] | None:
        """The smallest unused block that holds this many bytes without wasting as many; unused ones in excess are given up."""
        idle = [position for position, block in enumerate(self._blocks) if sys.getrefcount(block) <= _IDLE]
        fitting = [position for position in idle if size <= self._blocks[position].nbytes <= 2 * size]
        best = min(fitting, key=lambda position: self._blocks[position].nbytes, default=None)
        chosen = None if best is None else self._blocks[best]
        excess = [position for position in idle if position != best][self._spare :]
        for position in reversed(excess):
            del self._blocks[position]
        return chosen
