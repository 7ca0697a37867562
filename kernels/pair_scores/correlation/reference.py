"""Shares of the cross-correlation loss in plain PyTorch, from the correlation matrix itself."""

# Axes: B image, V view, D E embedding.

from __future__ import annotations

import torch
from torch import Tensor


def share_table(z_BVD: Tensor, redundancy: float) -> Tensor:
    """Every image's share of ``sum_d (1 - C_dd)^2 + redundancy * sum_{d != e} C_de^2``, C the cross-correlation of two views.

    C is a mean over images of ``a[n] b[n]^T``, a and b being the two views standardised over the images, and the loss a product
    of C (or 1 - C) with itself. Taking one of the two factors as it is and the other image by image gives::

        share[n] = sum_d (1 - C_dd) (1 - a[n, d] b[n, d]) + redundancy * sum_{d != e} C_de a[n, d] b[n, e]

    whose mean over the images is the loss.

    Args:
        z_BVD: floating [B, V, D], standardised: mean 0 and variance 1 over the images.
        redundancy: weight of the correlations of unlike dimensions.

    Returns:
        [B, V, V] of the input's type.
    """
    images, _, length = z_BVD.shape
    correlation_VWDE = torch.einsum("bvd,bwe->vwde", z_BVD, z_BVD) / images
    own_BVWDE = torch.einsum("bvd,bwe->bvwde", z_BVD, z_BVD)
    eye_DE = torch.eye(length, dtype=z_BVD.dtype, device=z_BVD.device)
    weight_DE = eye_DE + redundancy * (1 - eye_DE)
    return (weight_DE * (eye_DE - correlation_VWDE) * (eye_DE - own_BVWDE)).sum((-2, -1))
