"""Pair scores in plain PyTorch."""

# Axes: B image, V W view, D embedding.

from __future__ import annotations

import torch
from torch import Tensor

# The floor under a norm, as in torch.nn.CosineSimilarity, which the published losses use.
COSINE_EPS = 1e-8


def cosine_table(a_BVD: Tensor, b_BWD: Tensor) -> Tensor:
    """Cosine between every view of one embedding and every view of another, image by image.

    ``cos[n, v, w] = <a[n, v], b[n, w]> / (max(|a[n, v]|, eps) * max(|b[n, w]|, eps))`` with eps = 1e-8, as
    ``torch.nn.functional.cosine_similarity``.

    Args:
        a_BVD: floating [B, V, D].
        b_BWD: floating [B, W, D].

    Returns:
        float32 [B, V, W], accumulated in float32 whatever the inputs' type, also under autocast and with TF32 allowed. A NaN in
        an embedding makes that embedding's entries NaN; a zero embedding has cosine 0.
    """
    return dot_table(_unit(a_BVD), _unit(b_BWD))


def dot_table(a_BVD: Tensor, b_BWD: Tensor) -> Tensor:
    """``dot[n, v, w] = <a[n, v], b[n, w]>`` of every view of one embedding and every view of another, image by image.

    Args:
        a_BVD: floating [B, V, D].
        b_BWD: floating [B, W, D].

    Returns:
        float32 [B, V, W], accumulated in float32 whatever the inputs' type, also under autocast and with TF32 allowed.
    """
    a_BVD, b_BWD = a_BVD.to(torch.float32), b_BWD.to(torch.float32)
    # A product and a sum instead of a matrix product: autocast and TF32 would round a matrix product's factors, and rounded
    # scores would decide between close pairs.
    return torch.stack([(a_BD[:, None] * b_BWD).sum(-1) for a_BD in a_BVD.unbind(1)], dim=1)


def _unit(vectors: Tensor) -> Tensor:
    vectors = vectors.to(torch.float32)
    return vectors / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp_min(COSINE_EPS)
