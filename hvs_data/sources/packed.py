"""Many short strings in little memory."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable


class PackedStrings:
    """A list of paths kept as one block of bytes.

    A million str objects take about 50 bytes each beside their text; here it is 8, and nothing that the garbage collector visits.
    """

    def __init__(self, strings: Iterable[str]):
        block, ends = bytearray(), array("q")
        for string in strings:
            block += os.fsencode(string)
            ends.append(len(block))
        self._block, self._ends = bytes(block), ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        position = range(len(self))[index]
        start = self._ends[position - 1] if position else 0
        return os.fsdecode(self._block[start : self._ends[position]])

    def tobytes(self) -> bytes:
        """Text and ends: equal only for equal lists."""
        return self._block + self._ends.tobytes()
