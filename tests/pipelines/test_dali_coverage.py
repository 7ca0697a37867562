"""The share of a resize's weight that falls on the source, against whole matrices of weights."""

# Axes: S side, K source pixels.

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hvs_data.kernels.render.reference import keys_cubic, triangle
from hvs_data.pipelines.dali_coverage import coverage, frame_width
from render_material import INTERPOLATIONS

FILTERS = {"bilinear": (triangle, 1), "bicubic": (keys_cubic, 2)}


def weights(length: int, size: int, interpolation: str, frame: int) -> Tensor:
    """Raw weights of a source with a frame, [S, length + 2 frame]."""
    scale = length / size
    pixel_K = torch.arange(-frame, length + frame, dtype=torch.float64) + 0.5
    centre_S1 = (torch.arange(size, dtype=torch.float64)[:, None] + 0.5) * scale
    return FILTERS[interpolation][0]((pixel_K - centre_S1) / max(scale, 1.0))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [1, 2, 7, 32])
def test_the_share_of_every_output_pixel(interpolation: str, size: int) -> None:
    lengths = [1, 2, 3, 6, 7, 8, 31, 32, 33, 64, 65, 500]
    actual = coverage(torch.tensor(lengths, dtype=torch.int32), size, interpolation)
    for length, share_S in zip(lengths, actual, strict=True):
        frame = 2 * math.ceil(2 * max(length / size, 1)) + 2
        weight_SK = weights(length, size, interpolation, frame)
        expected_S = weight_SK[:, frame : frame + length].sum(1) / weight_SK.sum(1)
        # sums of at most 2 * frame terms of at most 1, in another order
        assert torch.allclose(share_S, expected_S, rtol=0, atol=8 * frame * 2.0**-53)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_frame_holds_every_tap(interpolation: str) -> None:
    lengths = torch.tensor([[1, 2], [9, 10], [11, 4000], [333, 334]])
    frames = frame_width(lengths, 10, interpolation)
    for length, frame in zip(lengths.flatten().tolist(), frames.flatten().tolist(), strict=True):
        wide = frame + 3
        beyond = weights(length, 10, interpolation, wide).abs()
        assert float(beyond[:, : wide - frame + 1].max()) == float(beyond[:, -(wide - frame + 1) :].max()) == 0
