"""Nothing beside an image, a canvas or the tables is touched, not even to be multiplied by a weight of zero; see guarded_memory.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

SUPPORT = Path(__file__).parents[3] / "support"

RENDER = """
import sys
import numpy as np
import torch
sys.path.append(sys.argv[1])
from hvs_data import recipes
from hvs_data.kernels.render.canvas import Canvas
from hvs_data.kernels.render.triton import render
from guarded_memory import guarded
from interpreted import take_indices
from render_material import drawn_rows, photo, plain_rows

take_indices()
at_end = sys.argv[2] == "end"
taken = []

def empty(*shape, dtype=torch.float32, **options):
    taken.append(shape)
    dtype = np.dtype(str(dtype).removeprefix("torch."))
    return torch.from_numpy(guarded(tuple(np.atleast_1d(shape[0] if len(shape) == 1 else shape)), dtype, at_end))

def corner_boxes(h, w):
    k, m = max(1, h // 3), max(1, w // 2)
    return [(0, 0, h, w), (h - k, w - m, k, m), (h - 1, w - 1, 1, 1)]

torch.empty = empty
for size in (2, 9):
    for h, w in [(1, 1), (1, 9), (7, 5), (13, 2), (3, 7), (2, 8)]:
        image = torch.from_numpy(guarded((h, w, 3), np.uint8, at_end))
        image.copy_(photo(h, w))
        interpolation = "bicubic" if size == 9 else "bilinear"
        rows = drawn_rows(recipes.simsiam(3, size=16, interpolation=interpolation), [image])
        rows.box.copy_(plain_rows([corner_boxes(h, w)]).box)
        rows.blur_sigma[:, 0] = 1.5
        canvas = Canvas.on(torch.from_numpy(guarded(3 * 3 * size * size, np.float32, at_end)), 3, 1, size, channels_last=size == 9)
        render.render_views([image], rows, canvas, normalize=True)
        assert canvas.flat.isfinite().all()
assert len(taken) == 12 * 6  # the tables in one piece, first taps, weights, scratch memory, sums of grey and what is half blurred
print("done")
"""


@pytest.mark.parametrize("guard", ["end", "start"])
def test_nothing_beside_the_memory_in_use_is_touched(guard: str) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", RENDER, str(SUPPORT), guard], capture_output=True, text=True, env=environment)
    assert done.stdout == "done\n", f"ended with {done.returncode}\n{done.stderr}"
