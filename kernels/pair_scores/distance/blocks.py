"""Mean squared distance one pair of views after the other."""

# Axes: B image, V view, D embedding.

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor


@torch.no_grad()
def squared_distance_table(z_BVD: Tensor) -> Tensor:
    """``d[n, v, w] = mean_d (z[n, v, d] - z[n, w, d])^2``.

    From the differences and not from a product of all views: the distance of two close views would drown in the rounding of
    their lengths.

    Args:
        z_BVD: floating [B, V, D].

    Returns:
        float32 [B, V, V], symmetric, 0 on the diagonal, without gradient; computed in float32 whatever the input's type. A NaN in
        an embedding makes its entries beside the diagonal NaN.
    """
    images, views, _ = z_BVD.shape
    table_BVV = z_BVD.new_zeros(images, views, views, dtype=torch.float32)
    for first, second in combinations(range(views), 2):
        difference_BD = z_BVD[:, first].to(torch.float32) - z_BVD[:, second].to(torch.float32)
        distance_B = difference_BD.square_().mean(-1)
        table_BVV[:, first, second] = distance_B
        table_BVV[:, second, first] = distance_B
    return table_BVV
