"""Memory that lies against a page which the operating system lets nobody touch: a step too far ends the process."""

from __future__ import annotations

import ctypes
import math
import mmap
from typing import Any

import numpy as np

PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)
_kept: list[mmap.mmap] = []


def guarded(shape: Any, dtype: Any, at_end: bool) -> np.ndarray:
    """An array of zeros that ends where a forbidden page starts, or starts where one ends; its memory is never given back."""
    dtype = np.dtype(dtype)
    count = int(math.prod(np.atleast_1d(shape)))
    size = count * dtype.itemsize
    pages = max(-(-size // PAGE), 1)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for forbidden in (start, start + (pages + 1) * PAGE):
        assert _libc.mprotect(ctypes.c_void_p(forbidden), PAGE, 0) == 0
    _kept.append(memory)
    offset = PAGE + pages * PAGE - size if at_end else PAGE
    return np.frombuffer(memory, dtype, count, offset).reshape(shape)
