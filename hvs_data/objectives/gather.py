"""What a loss takes from the other processes of torch.distributed: their embeddings, or sums over them."""

# Axes: B image of this process, M image of all processes.

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def gathered(rows: Tensor) -> tuple[Tensor, int]:
    """The rows of all processes, in the order of their ranks.

    Every process must call it, with as many rows as the others: sizes are not compared, as that would take a communication of its own,
    and with unequal ones the collective fails or hangs.

    Args:
        rows: [B, ...].

    Returns:
        [M, ...] without gradient, and the place of this process's first row in it: M = B and 0 where torch.distributed is not
        initialised.
    """
    if not is_distributed():
        return rows, 0
    rows = rows.detach().contiguous()
    of_rank = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(of_rank, rows)
    return torch.cat(of_rank), dist.get_rank() * len(rows)


def reduced(values: Tensor, how: str) -> Tensor:
    """Elementwise "sum" or "max" over the processes; the values themselves where torch.distributed is not initialised."""
    if not is_distributed():
        return values
    values = values.detach().clone()
    dist.all_reduce(values, dist.ReduceOp.MAX if how == "max" else dist.ReduceOp.SUM)
    return values


def alone(values: Tensor, how: str) -> Tensor:
    """What :func:`reduced` is for a loss that does not look at other processes."""
    return values


def is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
