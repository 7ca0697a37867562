"""How far torchvision's own arithmetic is from the definitions."""

from __future__ import annotations

import torch
from torchvision.transforms.v2 import InterpolationMode

from render_bounds import (
    U32,
)

DTYPES = (torch.float32, torch.float64)

# The grey of torchvision's tensor code is smaller by (.299 - .2989) * red, red at most 1.
GRAY_GAP = 1e-4
# Torchvision's hue, all in float32. The input's rounding counts threefold (HUE_SLOPE): 3. The position in the circle of six: ratios 3, two
# sums below 8 of 4 each: 11. Divided by 6, 2; + 1, the shift, its own rounding and the remainder, 1 each; times 6 again: 36, and its own 4.
# Saturation, 1 - s f and the product with v: 8.
HUE_TORCHVISION = 64 * U32


def mode(interpolation: str) -> InterpolationMode:
    return InterpolationMode(interpolation)
