"""The loss of every pair as each method's formula has it, from the outputs of networks, in the type that these have."""

# Axes: B image, V view, L local view, D embedding, K embedding of a queue.

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import torch
from torch import Tensor

from pair_formulas import own_among, unit


def table(views: int, loss: Callable[[int, int], Tensor]) -> Tensor:
    """[B, V, V] of a loss [B] of two views."""
    columns = {(i, j): loss(i, j) for i, j in permutations(range(views), 2)}
    first = next(iter(columns.values()))
    rows = [torch.stack([columns.get((i, j), torch.full_like(first, torch.nan)) for j in range(views)], 1) for i in range(views)]
    return torch.stack(rows, 1)


def both_ways(views: int, direction: Callable[[int, int], Tensor]) -> Tensor:
    """[B, V, V] of the mean of two directions."""
    return table(views, lambda i, j: (direction(i, j) + direction(j, i)) / 2)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (unit(a) * unit(b)).sum(-1)


def among_all(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of a's own b [B, D] among all b and all other a, each at length 1: [B]."""
    same = torch.eye(len(a), dtype=torch.bool)
    return own_among(torch.cat([a @ b.T / temperature, (a @ a.T / temperature).masked_fill(same, -torch.inf)], 1), range(len(a)))


def simsiam(p: Tensor, z: Tensor) -> Tensor:
    return table(z.shape[1], lambda i, j: -(cosine(p[:, i], z[:, j]) + cosine(p[:, j], z[:, i])) / 2)


def simclr(z: Tensor, temperature: float) -> Tensor:
    z = unit(z)
    return both_ways(z.shape[1], lambda i, j: among_all(z[:, i], z[:, j], temperature))


def dcl(z: Tensor, temperature: float, sigma: float | None = None) -> Tensor:
    z = unit(z)
    same = torch.eye(len(z), dtype=torch.bool)

    def direction(i: int, j: int) -> Tensor:
        agree = (z[:, i] * z[:, j]).sum(1)
        weight = 1.0 if sigma is None else 2 - len(z) * (agree / sigma).softmax(0)
        others = torch.cat([(z[:, i] @ z[:, k].T / temperature).masked_fill(same, -torch.inf) for k in (i, j)], 1)
        return others.logsumexp(1) - weight * agree / temperature

    return both_ways(z.shape[1], direction)


def vicreg(z: Tensor, weight: float) -> Tensor:
    return table(z.shape[1], lambda i, j: weight * (z[:, i] - z[:, j]).square().mean(1))


def barlow_twins(z: Tensor, redundancy: float) -> Tensor:
    """The share of each image in the batch's loss, element by element of the correlations."""
    z = (z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt()
    eye = torch.eye(z.shape[2], dtype=z.dtype)

    def share(i: int, j: int) -> Tensor:
        missing = eye - z[:, i].T @ z[:, j] / len(z)
        weighed = missing * (eye + redundancy * (1 - eye))
        return torch.stack([(weighed * (eye - torch.outer(a, b))).sum() for a, b in zip(z[:, i], z[:, j], strict=True)])

    return table(z.shape[1], share)


def byol(p: Tensor, target: Tensor) -> Tensor:
    return table(p.shape[1], lambda i, j: 4 - 2 * cosine(p[:, i], target[:, j]) - 2 * cosine(p[:, j], target[:, i]))


def moco(q: Tensor, k: Tensor, queue_KD: Tensor, temperature: float) -> Tensor:
    q, k, queue_KD = unit(q), unit(k), queue_KD.to(q)

    def direction(i: int, j: int) -> Tensor:
        return own_among(torch.cat([(q[:, i] * k[:, j]).sum(1, keepdim=True), q[:, i] @ queue_KD.T], 1) / temperature, [0] * len(q))

    return table(q.shape[1], direction)


def moco_v3(q: Tensor, k: Tensor, temperature: float) -> Tensor:
    """Both directions, each 2 t times the cross-entropy of an image's own key among those of all images."""
    q, k = unit(q), unit(k)

    def direction(i: int, j: int) -> Tensor:
        return 2 * temperature * own_among(q[:, i] @ k[:, j].T / temperature, range(len(q)))

    return table(q.shape[1], lambda i, j: direction(i, j) + direction(j, i))


def nnclr(z: Tensor, p: Tensor, queue_KD: Tensor, temperature: float) -> Tensor:
    """With the nearest neighbours among the negatives, as lightly has it."""
    z, p, keys = unit(z), unit(p), unit(queue_KD.to(z))
    near = keys[(z @ keys.T).argmax(-1)]

    def direction(i: int, j: int) -> Tensor:
        return (among_all(near[:, i], p[:, j], temperature) + among_all(p[:, j], near[:, i], temperature)) / 2

    return both_ways(z.shape[1], direction)


def tico(z: Tensor, m: Tensor, before: Tensor | None, beta: float, rho: float) -> Tensor:
    z, m = unit(z), unit(m)

    def direction(i: int, j: int) -> Tensor:
        covariance = (1 - beta) * z[:, i].T @ z[:, i] / len(z) + (0 if before is None else beta * before.to(z))
        return 1 - (z[:, i] * m[:, j]).sum(1) + rho * torch.einsum("nd,de,ne->n", z[:, i], covariance, z[:, i])

    return table(z.shape[1], direction)


def lejepa(z: Tensor, global_views: int) -> Tensor:
    """Of a set of views [B, V, D], global ones first: [B]."""
    return (z - z[:, :global_views].mean(1, keepdim=True)).square().mean((1, 2))


def mmcr(z: Tensor, target: Tensor) -> Tensor:
    """Of a set of views by both networks, [B, V, D] each: [B]."""
    return 1 - torch.cat([unit(z), unit(target)], 1).mean(1).square().sum(1)


def fast_siam(z: Tensor, p: Tensor) -> Tensor:
    """Of a set of views, projections and predictions [B, V, D]: each prediction against the others' projections, [B]."""
    views = range(z.shape[1])
    return torch.stack([-cosine(p[:, i], sum(z[:, j] for j in views if j != i)) for i in views]).mean(0)


def codes(logits: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Sinkhorn's, of one view of every image [B, K]."""
    code = (logits / epsilon).exp()
    for _ in range(iterations):
        code = code / code.sum(0)
        code = code / code.sum(1, keepdim=True)
    return code


def swav(logits: Tensor, code: Tensor, global_views: int, temperature: float = 0.1) -> Tensor:
    """Of a set of views, global ones first, [B, V, K] each: codes of global views against all others' predictions, [B]."""
    log_p = (logits / temperature).log_softmax(-1)
    pairs = [(i, v) for i in range(global_views) for v in range(logits.shape[1]) if v != i]
    return torch.stack([-(code[:, i] * log_p[:, v]).sum(1) for i, v in pairs]).mean(0)
