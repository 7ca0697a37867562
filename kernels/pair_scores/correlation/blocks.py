"""Shares of the cross-correlation loss from the similarities of images, never from the correlation matrix."""

# Axes: B image of this process, b image of a block, M image of all processes, V view, D embedding.

from __future__ import annotations

from itertools import combinations_with_replacement

import torch
from torch import Tensor

from hvs_data.kernels.pair_scores.product import unrounded_factors

# Similarities in one block: on a CPU what stays in its cache, elsewhere 16 MiB.
CPU_BLOCK, BLOCK = 2**18, 2**22
# Dimensions that are multiplied at a time, so that no more of the embeddings exists in parts where PyTorch may round products.
LENGTH = 2**10


@torch.no_grad()
def share_table(z_BVD: Tensor, all_MVD: Tensor, redundancy: float) -> Tensor:
    """Every image's share of ``sum_d (1 - C_dd)^2 + redundancy * sum_{d != e} C_de^2``, C the cross-correlation of two views.

    With a and b the two views, standardised, C is the mean over images of ``a[m] b[m]^T``, and the share of image n::

        share[n] = sum_d (1 - C_dd) (1 - a[n, d] b[n, d]) + redundancy * (a[n]^T C b[n] - sum_d C_dd a[n, d] b[n, d])
        a[n]^T C b[n] = 1/M sum_m <a[n], a[m]> <b[n], b[m]>

    so that similarities of images within a view, each computed once for all pairs, stand for the D x D matrices of the pairs.
    Beside the result there are a few blocks of at most ``BLOCK`` values (of V rows where that is not enough), a few tensors of one
    view's embeddings, and, where PyTorch may round products, parts of ``LENGTH`` dimensions of the inputs, six times their size.

    Args:
        z_BVD: float32 [B, V, D], standardised: mean 0 and variance 1 over the images.
        all_MVD: float32 [M, V, D], the images that C is the mean of; ``z_BVD`` itself, or that of all processes.
        redundancy: weight of the correlations of unlike dimensions.

    Returns:
        float32 [B, V, V] without gradient, symmetric, computed in float32 also under autocast and with TF32 allowed. A NaN in a
        view of one image makes that view's entries NaN for all images.
    """
    images, views, _ = z_BVD.shape
    share_BVV = redundancy / len(all_MVD) * _similarity_products(z_BVD, all_MVD)
    for first, second in combinations_with_replacement(range(views), 2):
        diagonal_D = (all_MVD[:, first] * all_MVD[:, second]).mean(0)
        missing_D = 1 - diagonal_D
        product_BD = z_BVD[:, first] * z_BVD[:, second]
        share_B = missing_D.sum() - product_BD.mul_(missing_D + redundancy * diagonal_D).sum(1)
        share_BVV[:, first, second] += share_B
        if first != second:
            share_BVV[:, second, first] += share_B
    return share_BVV


def _similarity_products(z_BVD: Tensor, all_MVD: Tensor) -> Tensor:
    """``sum_m <z[n, v], all[m, v]> <z[n, w], all[m, w]>``: float32 [B, V, V]."""
    (images, views, length), others = z_BVD.shape, len(all_MVD)
    step = max(1, min(images, (CPU_BLOCK if z_BVD.device.type == "cpu" else BLOCK) // (views * others)))
    sums_BVV = z_BVD.new_empty(images, views, views)
    for image in range(0, images, step):
        z_bVD = z_BVD[image : image + step]
        similarity_VbM = z_BVD.new_zeros(views, len(z_bVD), others)
        for start in range(0, length, LENGTH):
            some_bVD, some_MVD = unrounded_factors(z_bVD[..., start : start + LENGTH], all_MVD[..., start : start + LENGTH])
            # autocast leaves products in place alone
            similarity_VbM.baddbmm_(some_bVD.transpose(0, 1), some_MVD.permute(1, 2, 0))
        for first, second in combinations_with_replacement(range(views), 2):
            sum_b = (similarity_VbM[first] * similarity_VbM[second]).sum(1)
            sums_BVV[image : image + step, first, second] = sum_b
            sums_BVV[image : image + step, second, first] = sum_b
    return sums_BVV
