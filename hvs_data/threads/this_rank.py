"""Which rank of the run this process is."""

from __future__ import annotations

from hvs_data.arguments.values import whole_number
from hvs_data.errors import HvsError


def current_rank(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """This process's rank and the number of ranks: those given, else those of ``torch.distributed``, else those that a launcher such
    as torchrun has put into the environment, else 0 of 1.

    Raises:
        HvsError: only one of the two is given, or a rank outside [0, world_size).
    """
    if (rank is None) != (world_size is None):
        raise HvsError(f"expected rank and world_size together, got rank={rank} and world_size={world_size}; give both or neither")
    if rank is None or world_size is None:
        rank, world_size = _launched_rank()
    place, ranks = whole_number(rank), whole_number(world_size)
    if place is None or ranks is None or not 0 <= place < ranks:
        raise HvsError(
            f"rank must lie in [0, world_size), both whole numbers, got rank={rank!r} and world_size={world_size!r}; "
            'turn what comes from the environment into numbers, such as int(os.environ["RANK"]), or leave both out'
        )
    return place, ranks


def _launched_rank() -> tuple[int, int]:
    import os

    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    try:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        return 0, 1
