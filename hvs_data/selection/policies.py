"""Rules of choice: from the values of all that could be chosen to the one that is."""

# Axes: B image, M possible choice.

from __future__ import annotations

import torch
from torch import Tensor

POLICIES = ("hardest", "easiest", "random", "smallest_iou", "quantile", "softmax")
# Policies that read the values of all combinations and not just the best one's.
RANKING = ("quantile", "softmax")


def choose(value_BM: Tensor, policy: str, parameter: float = 0.0, unit_B: Tensor | None = None) -> Tensor:
    """The choice for every image; never one without a finite value, unless there is no other: then the first.

    Args:
        value_BM: floating [B, M], larger = harder.
        policy: "hardest": the largest value. "easiest": the smallest. "quantile": that of the finite values in rising order whose
            place is nearest to this share of the way from the first to the last. "softmax": drawn with probabilities proportional to
            exp(value / temperature). Of equal values the first one is taken.
        parameter: the share from 0 to 1, or the temperature above 0.
        unit_B: float64 [B] in (0, 1), for "softmax".

    Returns:
        int64 [B].
    """
    finite_BM = value_BM.isfinite()
    if policy == "softmax":
        assert unit_B is not None
        return _drawn(value_BM.to(torch.float64), finite_BM, parameter, unit_B)
    if policy == "quantile":
        return _ranked(value_BM, finite_BM, parameter)
    # argmax and argmin take the first of equals, and so the first of a row without a finite value
    if policy == "easiest":
        return value_BM.masked_fill(~finite_BM, torch.inf).argmin(1)
    return value_BM.masked_fill(~finite_BM, -torch.inf).argmax(1)


def _ranked(value_BM: Tensor, finite_BM: Tensor, share: float) -> Tensor:
    rising_BM = value_BM.masked_fill(~finite_BM, torch.inf).sort(1).values
    last_B = finite_BM.sum(1) - 1
    place_B = (last_B.to(torch.float64) * share + 0.5).floor().to(torch.int64).clamp_min(0)
    target_B1 = rising_BM.gather(1, place_B[:, None])
    return ((value_BM == target_B1) & finite_BM).to(torch.uint8).argmax(1)


def _drawn(value_BM: Tensor, finite_BM: Tensor, temperature: float, unit_B: Tensor) -> Tensor:
    scaled_BM = (value_BM / temperature).masked_fill(~finite_BM, -torch.inf)
    largest_B1 = scaled_BM.amax(1, keepdim=True)
    weight_BM = torch.exp(scaled_BM - largest_B1.masked_fill(~largest_B1.isfinite(), 0))
    # Whole numbers, since the order of a sum of floating ones may differ from run to run on CUDA. A weight is at most 2**40, and
    # fewer than 2**22 of them add up to less than 2**62; they err by 2**-40 of the largest.
    sum_BM = (weight_BM * 2.0**40).to(torch.int64).cumsum(1)
    target_B = (unit_B * sum_BM[:, -1].to(torch.float64)).to(torch.int64)
    place_B = (sum_BM <= target_B[:, None]).sum(1)
    return place_B.where(finite_BM.any(1), 0)
