"""Swapped prediction one view after the other: the code of one view exists at a time."""

# Axes: B image, L entry of a queue, N sample of either kind, V view, W view that is predicted from, K prototype.

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Combines a tensor with those of other processes, by "sum" or "max".
Reduce = Callable[[Tensor, str], Tensor]


def _alone(values: Tensor, how: str) -> Tensor:
    return values


@torch.no_grad()
def swapped_table(
    logits_BVK: Tensor,
    queue_LK: Tensor | None,
    temperature: float | Tensor,
    epsilon: float | Tensor,
    iterations: int,
    reduce: Reduce = _alone,
    others_BWK: Tensor | None = None,
) -> Tensor:
    """``CE[n, v, w] = -sum_k code[n, v, k] log softmax(others[n, w] / temperature)_k``, the codes by :func:`sinkhorn`.

    Args:
        logits_BVK: floating [B, V, K], similarities of views and prototypes.
        queue_LK: floating [L, K], samples that take part in each view's codes; None for none.
        temperature: of the prediction.
        epsilon, iterations: of the codes.
        reduce: combines with other processes, for codes over the samples of all of them.
        others_BWK: floating [B, W, K], views from which codes are predicted; None for the same views.

    Returns:
        float32 [B, V, W] without gradient, computed in float32 whatever the inputs' type, with sums and no matrix product, so that
        neither autocast nor TF32 rounds its factors. A NaN in a view of one image makes that view's row of the table NaN for all
        images, and its column for that image.
    """
    others = (logits_BVK if others_BWK is None else others_BWK).unbind(1)
    lse_WB = [(logits_BK.to(torch.float32) / temperature).logsumexp(1) for logits_BK in others]
    table_BVW = logits_BVK.new_empty(*logits_BVK.shape[:2], len(others), dtype=torch.float32)
    for first, logits_BK in enumerate(logits_BVK.unbind(1)):
        code_BK = sinkhorn(logits_BK, queue_LK, epsilon, iterations, reduce)
        for second, other_BK in enumerate(others):
            # a code sums to 1, so that the logits' lse comes out of the sum
            table_BVW[:, first, second] = lse_WB[second] - (code_BK * other_BK.to(torch.float32)).sum(1) / temperature
    return table_BVW


@torch.no_grad()
def sinkhorn(logits_BK: Tensor, queue_LK: Tensor | None, epsilon: float | Tensor, iterations: int, reduce: Reduce = _alone) -> Tensor:
    """Codes of samples: ``exp(logits / epsilon)`` scaled in turns to equal prototypes and to equal samples (arXiv 2006.09882).

    Args:
        logits_BK: floating [B, K], similarities of samples and prototypes.
        queue_LK: floating [L, K], further samples that take part; None for none.
        iterations: at least 1.
        reduce: combines with other processes, for codes over the samples of all of them.

    Returns:
        float32 [B, K], each row a distribution over prototypes. The samples of the queue have codes too, which are dropped. A
        sample whose logits all lie more than 87 epsilon below the largest of the batch, or are -inf, has the code NaN and takes no part
        in the others'.
    """
    samples = [logits_BK] if queue_LK is None else [logits_BK, queue_LK]
    code_NK = torch.cat([part.to(torch.float32) for part in samples]) / epsilon
    # a common factor of all samples leaves the codes as they are, and keeps exp from overflowing
    code_NK.sub_(reduce(code_NK.amax(), "max")).exp_()
    for _ in range(iterations):
        # a prototype so far from all samples that nothing is left of it stays at 0
        code_NK.div_(reduce(code_NK.sum(0), "sum").clamp_min(torch.finfo(torch.float32).tiny))
        total_N1 = code_NK.sum(1, keepdim=True)
        code_NK.div_(total_N1.clamp_min(torch.finfo(torch.float32).tiny))
    return code_NK[: len(logits_BK)].masked_fill_(total_N1[: len(logits_BK)] == 0, torch.nan)
