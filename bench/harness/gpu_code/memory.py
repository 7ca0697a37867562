"""Memory that emulated code reads and writes: that of tensors at their own addresses, and each program's shared memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.generic]


class MemoryFaultError(Exception):
    """Code reached beyond the memory that it was given."""


class Memory:
    """Memory of tensors, by address.

    Args:
        tensors: on the CPU. Those that share memory count once.
    """

    def __init__(self, tensors: Sequence[Tensor]):
        ranges = {}
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage.nbytes():
                ranges[storage.data_ptr()] = torch.tensor([], dtype=torch.uint8).set_(storage)
        self._starts = np.array(sorted(ranges), np.int64)
        self._bytes = [ranges[start].numpy() for start in sorted(ranges)]
        self._sizes = np.array([len(data) for data in self._bytes], np.int64)

    def placed(self, address: Array) -> Array:
        """Where each address would lie if every allocation began at a large round number, as those of a GPU do."""
        segment = np.maximum(np.searchsorted(self._starts, address, side="right") - 1, 0)
        return address - self._starts[segment] + (segment << 40)

    def load(self, address: Array, size: int) -> Array:
        """Unsigned numbers of so many bytes, 1, 2 or 4, at each address."""
        result = np.zeros(len(address), np.uint32)
        for lanes, data, offset in self._parts(address, size):
            result[lanes] = data.view(f"u{size}")[offset // size]
        return result

    def store(self, address: Array, size: int, value: Array) -> None:
        for lanes, data, offset in self._parts(address, size):
            data.view(f"u{size}")[offset // size] = value[lanes].astype(f"u{size}")

    def _parts(self, address: Array, size: int):
        if not len(address):
            return
        segment = np.searchsorted(self._starts, address, side="right") - 1
        offset = address - self._starts[segment]
        wrong = (segment < 0) | (offset + size > self._sizes[segment])
        if wrong.any():
            before, beyond = int(offset[wrong][0]), int(self._sizes[segment[wrong][0]])
            raise MemoryFaultError(f"expected an access within an allocation, got {size} bytes at {before} of one of {beyond}")
        if (address % size).any():
            raise MemoryFaultError(f"{size} bytes at an address that is no multiple of {size}")
        first = segment[0]
        if (segment == first).all():
            yield slice(None), self._trimmed(first, size), offset
            return
        for number in np.unique(segment):
            lanes = np.flatnonzero(segment == number)
            yield lanes, self._trimmed(number, size), offset[lanes]

    def _trimmed(self, number: int, size: int) -> Array:
        data = self._bytes[number]
        return data[: len(data) // size * size]


def distinct(*keys: Array) -> int:
    """How many different combinations there are."""
    combined = keys[0].astype(np.int64)
    for key in keys[1:]:
        combined = combined * (int(key.max()) + 1) + key
    return len(np.unique(combined))
