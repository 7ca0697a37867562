"""Swapped prediction in plain PyTorch, view by view and pair by pair as its formulas stand."""

# Axes: B image, L entry of a queue, N sample of either kind, V view, K prototype.

from __future__ import annotations

import torch
from torch import Tensor


def sinkhorn(logits_NK: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Codes of samples: ``exp(logits / epsilon)`` scaled in turns to equal prototypes and to equal samples (arXiv 2006.09882).

    Args:
        logits_NK: floating [N, K], similarities of samples and prototypes.

    Returns:
        [N, K] of the input's type, each row a distribution over prototypes.
    """
    code_NK = (logits_NK / epsilon).exp()
    code_NK = code_NK / code_NK.sum()
    samples, prototypes = code_NK.shape
    for _ in range(iterations):
        code_NK = code_NK / code_NK.sum(0, keepdim=True) / prototypes
        code_NK = code_NK / code_NK.sum(1, keepdim=True) / samples
    return code_NK * samples


def swapped_table(
    logits_BVK: Tensor,
    queue_LK: Tensor | None,
    temperature: float,
    epsilon: float,
    iterations: int,
    others_BWK: Tensor | None = None,
) -> Tensor:
    """``CE[n, v, w] = -sum_k code[n, v, k] log softmax(others[n, w] / temperature)_k``.

    Args:
        logits_BVK: floating [B, V, K].
        queue_LK: floating [L, K] of the same type, samples that take part in each view's codes; None for none.
        others_BWK: floating [B, W, K], views from which codes are predicted; None for the same views.

    Returns:
        [B, V, W] of the inputs' type.
    """
    images, views, _ = logits_BVK.shape
    queue = [] if queue_LK is None else [queue_LK]
    codes = [sinkhorn(torch.cat([logits_BVK[:, view], *queue]), epsilon, iterations)[:images] for view in range(views)]
    log_p_BWK = ((logits_BVK if others_BWK is None else others_BWK) / temperature).log_softmax(-1)
    return torch.stack([-(code_BK[:, None] * log_p_BWK).sum(-1) for code_BK in codes], dim=1)
