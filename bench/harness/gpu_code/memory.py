"""Memory that emulated code reads and writes: that of tensors, at their own addresses."""

# Axes: L lane that takes part in an access.

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]
ALLOCATION = 40  # bits: what is placed apart lies 2**40 bytes apart


class MemoryFaultError(Exception):
    """Code reached beyond the memory that it was given, or to an address that is no multiple of what it reads."""


class Memory:
    """Memory of tensors, by address.

    Args:
        tensors: on the CPU, by a name. Those that share memory go by the name of the first.

    Attributes:
        names: of the allocations, in the order of their addresses.
    """

    def __init__(self, tensors: Mapping[str, Tensor]):
        storages = {}
        for name, tensor in tensors.items():
            storage = tensor.untyped_storage()
            if storage.nbytes():
                storages.setdefault(storage.data_ptr(), (name, storage))
        starts = sorted(storages)
        self.names = [storages[start][0] for start in starts]
        self._starts = np.array(starts, np.int64)
        self._bytes = [torch.tensor([], dtype=torch.uint8).set_(storages[start][1]).numpy() for start in starts]
        self._sizes = np.array([len(data) for data in self._bytes], np.int64)

    def placed(self, address_L: Array) -> Array:
        """Where each address lies if every allocation begins at a large round number, as those of a GPU do: its number, then the offset."""
        number_L = np.maximum(np.searchsorted(self._starts, address_L, side="right") - 1, 0)
        return address_L - self._starts[number_L] + (number_L << ALLOCATION)

    def load(self, address_L: Array, size: int) -> Array:
        """Unsigned numbers of so many bytes, 1, 2 or 4, as uint32."""
        result_L = np.zeros(len(address_L), np.uint32)
        for lanes, data, position in self._parts(address_L, size):
            result_L[lanes] = data[position]
        return result_L

    def store(self, address_L: Array, size: int, value_L: Array) -> None:
        """Store the lowest 1, 2 or 4 bytes of uint32."""
        for lanes, data, position in self._parts(address_L, size):
            data[position] = value_L[lanes].astype(data.dtype)

    def _parts(self, address_L: Array, size: int) -> Iterator[tuple[Any, Array, Array]]:
        """For each allocation the lanes that reach into it, its numbers of this size, and the positions of those that are meant."""
        number_L = np.searchsorted(self._starts, address_L, side="right") - 1
        offset_L = address_L - self._starts[number_L]
        wrong = (number_L < 0) | (offset_L + size > self._sizes[number_L])
        if wrong.any():
            offset, number = int(offset_L[wrong][0]), int(number_L[wrong][0])
            where = f"at {offset} of {self._sizes[number]} bytes, {self.names[number]}" if number >= 0 else "before all allocations"
            raise MemoryFaultError(f"expected an access within an allocation, got one of {size} bytes {where}")
        if (address_L % size).any():
            raise MemoryFaultError(f"expected addresses that are multiples of {size}, got others")
        for number in np.unique(number_L):
            data = self._bytes[number]
            lanes = np.flatnonzero(number_L == number)
            yield lanes, data[: len(data) // size * size].view(f"u{size}"), offset_L[lanes] // size


def distinct(*keys_L: Array) -> int:
    """How many different combinations of keys, whole numbers from 0 on, the lanes have."""
    combined_L = keys_L[0].astype(np.int64)
    for key_L in keys_L[1:]:
        combined_L = combined_L * (int(key_L.max()) + 1) + key_L
    return len(np.unique(combined_L))
