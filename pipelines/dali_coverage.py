"""How much of a resize's weight falls on the box itself, where DALI gives a share of it to what lies beyond the box.

At a border, Pillow, torch and this package leave out the taps that fall outside of the box and divide by the sum of the others. DALI
divides by the sum of all taps, and reads the nearest pixel of the border for those outside: an eighth of the weight for every downscale,
up to a quarter in a corner. With a frame of zeros around the box, taps outside add nothing, and a division by the share of the weight
that fell inside gives what was wanted.
"""

# Axes: N view of any image, S side, E output pixel near an edge, K taps.

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hvs_data.arguments.sizes import Size, height_width

# The distance at which a filter ends, in source pixels or, for a downscale, in output ones.
RADIUS = {"bilinear": 1, "bicubic": 2}


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp_min(0)


def _cubic(distance: Tensor) -> Tensor:
    # Keys 1981 with a = -0.5
    d = distance.abs()
    near = 1 + d * d * (1.5 * d - 2.5)
    far = 2 + d * (-4 + d * (2.5 - 0.5 * d))
    return torch.where(d < 1, near, torch.where(d < 2, far, 0))


_FILTERS: dict[str, Callable[[Tensor], Tensor]] = {"bilinear": _triangle, "bicubic": _cubic}


def frame_width(length_N2: Tensor, size: Size, interpolation: str) -> Tensor:
    """Width of a frame around boxes that holds every tap of a resize: integer [N, 2], as the boxes' heights and widths."""
    size_2 = torch.tensor(height_width(size), dtype=length_N2.dtype)
    # ceil(radius * max(length / size, 1)), and one for the rounding of positions
    return ((RADIUS[interpolation] * length_N2 + size_2 - 1) // size_2).clamp_min(RADIUS[interpolation]) + 1


def coverage(length_N: Tensor, size: int, interpolation: str) -> Tensor:
    """The share of each output pixel's weight that falls on the source, along one side.

    Args:
        length_N: integers of at least 1, the source's pixels.
        size: S.

    Returns:
        float64 [N, S], 1 but near both ends.
    """
    covered_NS = torch.ones(len(length_N), size, dtype=torch.float64)
    # a downscale needs many taps for one or two pixels at an end, an enlargement few for many pixels
    for chosen_N in (length_N >= size, length_N < size):
        if chosen_N.any():
            covered_NS[chosen_N] = _coverage(length_N[chosen_N].double(), size, interpolation)
    return covered_NS


def _coverage(length_N: Tensor, size: int, interpolation: str) -> Tensor:
    radius = RADIUS[interpolation]
    scale_N = length_N / size
    stretch_N11 = scale_N.clamp_min(1)[:, None, None]
    # pixels whose filter reaches beyond the first source pixel: (x + 1/2) scale < radius stretch
    edge = min(size, int((radius * stretch_N11.flatten() / scale_N + 0.5).max()))
    centre_NE1 = ((torch.arange(edge) + 0.5) * scale_N[:, None])[:, :, None]
    taps = 2 * int(torch.ceil(radius * stretch_N11.max())) + 1
    tap_NEK = torch.floor(centre_NE1 - radius * stretch_N11) + torch.arange(taps, dtype=torch.float64)
    weight_NEK = _FILTERS[interpolation]((tap_NEK + 0.5 - centre_NE1) / stretch_N11)
    inside_NEK = (tap_NEK >= 0) & (tap_NEK < length_N[:, None, None])
    covered_NE = (weight_NEK * inside_NEK).sum(-1) / weight_NEK.sum(-1)
    covered_NS = torch.ones(len(length_N), size, dtype=torch.float64)
    # the source is the same from its other end; where both ends meet, taps beyond either were left out above
    covered_NS[:, size - edge :] = covered_NE.flip(1)
    covered_NS[:, :edge] = covered_NE
    return covered_NS
