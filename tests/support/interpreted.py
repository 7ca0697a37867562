"""Triton's interpreter, which must have been chosen before triton is imported, with a NumPy that is newer than it.

Up to Triton 3.6, and in some version after it no more, the bounds of a kernel's loops are made integers by ``int(array)`` of an array with
one element in one dimension. NumPy 2.5 refuses that.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def take_indices() -> None:
    """Tensors of one element are integers, whatever NumPy says of arrays."""
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patched(tensor: Any, *scope: Any) -> None:
        patch(tensor, *scope)
        tensor.__index__ = lambda self: int(self.handle.data.item())

    interpreter._patch_lang_tensor = patched


def assert_passes(file: str, *, skipped: int) -> None:
    """The tests of a file pass in a process that interprets kernels, but for so many that are skipped there, and no more."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file]
    done = subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f" passed, {skipped} skipped" in done.stdout, done.stdout
