"""One of several, drawn by weights."""

# Axes: B image, M what may be drawn.

from __future__ import annotations

import torch
from torch import Tensor


def drawn(log_weight_BM: Tensor, unit_B: Tensor) -> Tensor:
    """A place for every image, drawn with probabilities proportional to exp(log weight): int64 [B].

    Args:
        log_weight_BM: float64 [B, M]; -inf is never drawn, unless nothing else is there.
        unit_B: float64 [B] in (0, 1).
    """
    largest_B1 = log_weight_BM.amax(1, keepdim=True)
    weight_BM = torch.exp(log_weight_BM - largest_B1.masked_fill(~largest_B1.isfinite(), 0))
    # Whole numbers, since the order of a sum of floating ones may differ from run to run on CUDA. A weight is at most 2**40, and
    # fewer than 2**22 of them add up to less than 2**62; they err by 2**-40 of the largest.
    sum_BM = (weight_BM * 2.0**40).to(torch.int64).cumsum(1)
    target_B = (unit_B * sum_BM[:, -1].to(torch.float64)).to(torch.int64)
    return (sum_BM <= target_B[:, None]).sum(1).clamp_max(log_weight_BM.shape[1] - 1)
