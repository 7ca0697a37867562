"""Nothing beside an image, a canvas or the scratch memory is touched, not even to be multiplied by a weight of zero.

Each lies against a page of memory that the operating system lets nobody touch: a step too far ends the process, which is why this
runs in one of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parents[3] / "support"

GUARD = """
import ctypes, sys
import numpy as np
sys.path.append(sys.argv[1])
from guarded_memory import guarded
"""
RENDER = """
import torch
from hvs_data import recipes
from hvs_data.kernels.render.canvas import Canvas, count_elements
from hvs_data.kernels.render.numba import render
from render_material import drawn_rows, photo, plain_rows

image_sizes = [(1, 1), (1, 29), (31, 1), (7, 5), (40, 33), (2, 3)]

def corner_boxes(h, w):
    k, m = max(1, h // 3), max(1, w // 2)
    return [(0, 0, h, w), (h - k, w - m, k, m), (0, w - m, k, m), (h - k, 0, k, m), (h - 1, w - 1, 1, 1), (0, 0, 1, 1)]

# compile before memory is watched
render.render_one(photo(9, 9), 0, render.Job.make(plain_rows([[(0, 0, 9, 9)]]), Canvas.empty(1, 1, 4, torch.float32), normalize=True))
for at_end in (True, False):
    for name in ("zeros", "empty"):
        setattr(np, name, lambda shape, dtype=float, at_end=at_end: guarded(shape, dtype, at_end))
    render._zeros = lambda count, at_end=at_end: guarded(count, np.float32, at_end)
    for size in (1, 2, 5, 17, (17, 2), (3, 33)):
        for h, w in image_sizes:
            pixels = guarded((h, w, 3), np.uint8, at_end)
            pixels[:] = photo(h, w).numpy()
            image = torch.from_numpy(pixels)
            # new scratch memory, just large enough for this image
            render._scratch = render.Scratch()
            for interpolation in ("bilinear", "bicubic"):
                recipe = recipes.simsiam(6, size=16, interpolation=interpolation)
                rows = drawn_rows(recipe, [image])
                for box in (rows.box, plain_rows([corner_boxes(h, w)]).box):
                    flat = torch.from_numpy(guarded(count_elements(6, 1, size), np.float32, at_end))
                    rows.box.copy_(box)
                    for channels_last in (False, True):
                        canvas = Canvas.on(flat, 6, 1, size, channels_last=channels_last)
                        render.render_one(image, 0, render.Job.make(rows, canvas, normalize=True))
                        assert canvas.flat.isfinite().all()
print("done")
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", GUARD + code, str(SUPPORT)], capture_output=True, text=True, timeout=300)


def test_nothing_beside_the_memory_in_use_is_touched() -> None:
    done = run(RENDER)
    assert done.stdout == "done\n", f"ended with {done.returncode}\n{done.stderr}"


@pytest.mark.parametrize(("at_end", "index"), [(True, 12), (False, -1)])
def test_the_guard_ends_the_process(at_end: bool, index: int) -> None:
    step = f"array = guarded(12, np.uint8, {at_end}); ctypes.string_at(array.ctypes.data + {index}, 1); print('survived')"
    done = run(step)
    assert done.returncode < 0 and "survived" not in done.stdout
    inside = f"array = guarded(12, np.uint8, {at_end}); print(ctypes.string_at(array.ctypes.data + {index} % 12, 1))"
    assert run(inside).returncode == 0
