"""Pixels do not depend on how many floats a processor's vectors hold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

from hvs_data.kernels.numba_compile import LANES_VARIABLE

SUPPORT = Path(__file__).parents[3] / "support"

RENDER = """
import sys
sys.path.append(sys.argv[1])
import torch
import hvs_data as hvs
from hvs_data.kernels.numba_compile import LANES
from render_material import drawn_rows, photo

assert str(LANES) == sys.argv[3], LANES
images = [photo(h, w) for h, w in ((61, 83), (200, 150), (1, 40), (33, 2))]
rendered = {}
for hue in (0.0, 0.1):
    for interpolation in ("bilinear", "bicubic"):
        # of whole vectors, of half ones, and of odd sides
        for size in (64, 40, 37, 5):
            recipe = hvs.recipes.byol(4, size=size, interpolation=interpolation).with_roles(jitter=hvs.recipes.ColorJitter(hue=hue))
            rows = drawn_rows(recipe, images)
            for dtype in (torch.float32,) if hue else (torch.float32, torch.bfloat16, torch.uint8):
                for channels_last in (False, True):
                    views = hvs.render(images, rows, engine="fused", dtype=dtype, channels_last=channels_last, num_threads=1)
                    rendered[hue, interpolation, size, dtype, channels_last] = views.contiguous()
torch.save(rendered, sys.argv[2])
"""
# Hue divides, beginning with the processor's own estimate of the inverse, which is refined to 2^-22 or better. Six sectors of the colour
# circle, a factor of 1.4 behind it and a standard deviation of .22 make 2^-16 of that.
HUE_TOLERANCE = 2**-16


def rendered(lanes: int, folder: Path) -> dict[tuple, Tensor]:
    path = folder / f"{lanes}.pt"
    arguments = [sys.executable, "-c", RENDER, str(SUPPORT), str(path), str(lanes)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, env={**os.environ, LANES_VARIABLE: str(lanes)})
    assert done.returncode == 0, done.stderr[-4000:]
    return torch.load(path)


def test_vectors_of_8_and_of_16_floats_give_the_same_pixels(tmp_path: Path) -> None:
    short, long = rendered(8, tmp_path), rendered(16, tmp_path)
    assert len(short) == 64
    for case, views in short.items():
        hue, *_ = case
        if hue == 0:
            assert torch.equal(views, long[case]), case
        else:
            torch.testing.assert_close(views, long[case], rtol=0, atol=HUE_TOLERANCE)
