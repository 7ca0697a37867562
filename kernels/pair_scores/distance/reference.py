"""Mean squared distance in plain PyTorch, all pairs at once."""

# Axes: B image, V view, D embedding.

from __future__ import annotations

from torch import Tensor


def squared_distance_table(z_BVD: Tensor) -> Tensor:
    """``d[n, v, w] = mean_d (z[n, v, d] - z[n, w, d])^2``: floating [B, V, D] -> [B, V, V] of the same type."""
    return (z_BVD[:, :, None] - z_BVD[:, None]).square().mean(-1)
