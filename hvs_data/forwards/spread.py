"""How far apart a model's outputs of different images are: near 0, it has collapsed to one output for all of them."""

# Axes: N image, B image of one part of a batch, V view, D embedding.

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hvs_data.objectives.base import Outputs, output_tensors

# Images of a batch that are looked at, to bound memory where outputs have tens of thousands of dimensions.
MOST_IMAGES = 256


class OutputSpread:
    """Gathers the outputs of one scoring step, part by part. Nothing waits for the device.

    The spread of outputs is the standard deviation of each dimension of the outputs at length 1, over images, the mean of it over
    dimensions, times the root of their number (Chen & He 2021, section 4.1): 1 where outputs point in all directions alike, 0 where all
    images have the same. Of several outputs, such as projections and predictions, it is the smallest one.
    """

    def __init__(self) -> None:
        self._parts: list[list[Tensor]] = []
        self._images = 0

    def note(self, outputs: Outputs) -> None:
        """Take note of outputs with first axes [B, V]. Those of the first view that are one floating vector an image count."""
        left = MOST_IMAGES - self._images
        if left == 0:
            return
        # a copy of what is looked at alone, so that the rest can be let go of
        units = [unit_vectors(output[:left, 0].flatten(1)) for output in output_tensors(outputs) if _holds_vectors(output)]
        if units:
            self._parts.append(units)
            self._images += len(units[0])

    def value(self) -> Tensor | None:
        """float32 scalar on the outputs' device; None of less than two images, or where no output is a vector."""
        if self._images < 2:
            return None
        return torch.stack([spread_of(torch.cat(parts)) for parts in zip(*self._parts, strict=True)]).amin()


def unit_vectors(vectors_ND: Tensor) -> Tensor:
    """Vectors at length 1, float32 [N, D]."""
    return F.normalize(vectors_ND.detach().to(torch.float32), dim=1)


def spread_of(unit_ND: Tensor) -> Tensor:
    """The spread of one output at length 1, of at least two images: float32 scalar."""
    return unit_ND.std(0).mean() * math.sqrt(unit_ND.shape[1])


def _holds_vectors(output_BV: Tensor) -> bool:
    # a single number has no direction
    return output_BV.is_floating_point() and output_BV.ndim >= 3 and output_BV.shape[2] > 1 and output_BV.shape[3:].numel() == 1
