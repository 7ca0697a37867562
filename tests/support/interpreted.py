"""Triton's interpreter, which must have been chosen before triton is imported, with a NumPy that is newer than it.

Up to Triton 3.6, and in some version after it no more, the bounds of a kernel's loops are made integers by ``int(array)`` of an array with
one element in one dimension. NumPy 2.5 refuses that.
"""

from __future__ import annotations

from typing import Any


def take_indices() -> None:
    """Tensors of one element are integers, whatever NumPy says of arrays."""
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patched(tensor: Any, *scope: Any) -> None:
        patch(tensor, *scope)
        tensor.__index__ = lambda self: int(self.handle.data.item())

    interpreter._patch_lang_tensor = patched
