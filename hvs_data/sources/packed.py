"""Many short strings in little memory."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


class PackedStrings:
    """A list of paths kept as one block of bytes.

    A million str objects take about 50 bytes each beside their text; here it is 8, and nothing that the garbage collector visits.
    """

    def __init__(self, strings: Iterable[str]):
        block, ends = bytearray(), array("q")
        for string in strings:
            block += os.fsencode(string)
            ends.append(len(block))
        self._block: bytes | memoryview = bytes(block)
        self._ends = np.array(ends, np.int64)

    @classmethod
    def of_bytes(cls, block: bytes | memoryview, ends: NDArray[np.int64]) -> PackedStrings:
        """What ``block`` and ``ends`` of another list are.

        Raises:
            ValueError: ends that fall, or that do not end where the text does.
        """
        edges = np.concatenate([[0], ends, [len(block)]])
        if (np.diff(edges) < 0).any() or edges[-2] != len(block):
            raise ValueError(f"expected ends that rise to {len(block)}, the size of the text")
        packed = cls(())
        packed._block, packed._ends = block, ends
        return packed

    @classmethod
    def joined(cls, parts: Sequence[PackedStrings]) -> PackedStrings:
        """One list after another."""
        packed = cls(())
        starts = np.cumsum([0, *(len(part._block) for part in parts)])
        packed._block = b"".join(part._block for part in parts)
        packed._ends = np.concatenate([packed._ends, *(part._ends + start for part, start in zip(parts, starts[:-1], strict=True))])
        return packed

    @property
    def block(self) -> bytes | memoryview:
        """The texts, one after another."""
        return self._block

    @property
    def ends(self) -> NDArray[np.int64]:
        """Where each text ends in the block."""
        return self._ends

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return len(self._block) + self._ends.nbytes

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        position = range(len(self))[index]
        start = self._ends[position - 1] if position else 0
        return os.fsdecode(bytes(self._block[start : self._ends[position]]))

    def tobytes(self) -> bytes:
        """Text and ends: equal only for equal lists."""
        return b"".join((self._block, self._ends.tobytes()))
