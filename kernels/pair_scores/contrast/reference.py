"""Log-sum-exp of similarities in plain PyTorch, all of them at once."""

# Axes: B image, M image or key to compare with, V W view, D embedding.

from __future__ import annotations

import torch
from torch import Tensor


def lse_table(a_BVD: Tensor, b_MWD: Tensor, own: int | None = None) -> Tensor:
    """``lse[n, v, w] = log sum_m exp(<a[n, v], b[m, w]>)``, over all m or over all but the image itself.

    Args:
        a_BVD: floating [B, V, D]; similarities are often divided by a temperature, which is here a factor of either input.
        b_MWD: floating [M, W, D].
        own: if given, image n is row ``own + n`` of ``b_MWD``, and that row is left out.

    Returns:
        [B, V, W] of the inputs' type; -inf where nothing is left.
    """
    similarity_BVWM = torch.einsum("bvd,mwd->bvwm", a_BVD, b_MWD)
    if own is not None:
        row_B = torch.arange(a_BVD.shape[0])
        similarity_BVWM[row_B, :, :, row_B + own] = -torch.inf
    return similarity_BVWM.logsumexp(-1)
