"""The order of an epoch, and each rank's share of it: computed from (seed, epoch) and a position, never stored.

The order is a keyed permutation: a Feistel network over a rectangle of whole numbers that is little larger than the epoch, walked
until it lands inside. Source: Black & Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002 (generalised Feistel, cycle
walking); the round function is Philox.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hvs_data.errors import HvsError
from hvs_data.philox import philox_4x32, split_64, to_integer

ROUNDS = 8
# A purpose of random words beside those of the rows, see sampling.py: the highest byte of the counter's last word.
_ORDER = 255 << 24


@dataclass(frozen=True)
class EpochOrder:
    """The samples of one epoch by their position in it.

    Attributes:
        length: samples of the source, at least 1.
        seed, epoch: as in :func:`hvs_data.sample_views`.
        shuffle: False keeps the source's own order.
    """

    length: int
    seed: int
    epoch: int
    shuffle: bool = True

    def __call__(self, position: ArrayLike) -> NDArray[np.int64]:
        """Index in the source of the samples at some positions; int64, of the same shape. Positions past the end begin anew."""
        index = np.asarray(position, dtype=np.int64) % self.length
        if not self.shuffle or self.length == 1:
            return index
        shape = index.shape
        index = self._permuted(index.ravel())
        while (outside := index >= self.length).any():
            index[outside] = self._permuted(index[outside])
        return index.reshape(shape)

    def _permuted(self, value: NDArray[np.int64]) -> NDArray[np.int64]:
        """A permutation of [0, rows * columns), rows * columns >= length."""
        columns = math.isqrt(self.length - 1) + 1
        rows = -(-self.length // columns)
        row, column = np.divmod(value, columns)
        key = split_64(self.seed)
        for number in range(ROUNDS):
            if number % 2 == 0:
                words = philox_4x32((column, self.length & 0xFFFFFFFF, self.epoch, _ORDER | number), key)
                row = (row + to_integer(words[..., 0], rows)) % rows
            else:
                words = philox_4x32((row, self.length & 0xFFFFFFFF, self.epoch, _ORDER | number), key)
                column = (column + to_integer(words[..., 0], columns)) % columns
        return row * columns + column


@dataclass(frozen=True)
class Shares:
    """How the positions of an epoch are dealt to ranks, step by step. All ranks make the same number of steps.

    A step takes the next ``batch_size * world_size`` positions, each rank its own block of them. Positions are counted over all
    ranks, so that an epoch begun on one number of ranks can go on with another.

    Attributes:
        length: samples of the source.
        batch_size: images of a full batch on one rank.
        world_size: ranks.
        drop_last: leave out the samples at the end that do not fill a batch on every rank. Else the last step deals them evenly, and
            takes a few from the epoch's beginning again where they cannot be dealt evenly.
    """

    length: int
    batch_size: int
    world_size: int
    drop_last: bool

    def steps(self, start: int = 0) -> int:
        """Steps from position ``start`` to the end of the epoch."""
        left, whole = max(self.length - start, 0), self.batch_size * self.world_size
        return left // whole if self.drop_last else -(-left // whole)

    def next_position(self, start: int) -> int:
        """Where the step that begins at ``start`` ends."""
        return min(start + self.batch_size * self.world_size, self.length)

    def positions(self, start: int, rank: int) -> NDArray[np.int64]:
        """A rank's positions of the step that begins at ``start``; those past the end stand for the epoch's first ones."""
        each = -(-(self.next_position(start) - start) // self.world_size)
        first = start + rank * each
        return np.arange(first, first + each, dtype=np.int64)


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
    if not 0 <= rank < world_size:
        raise HvsError(f"rank must lie in [0, world_size), got rank={rank} and world_size={world_size}")
    return rank, world_size


def _launched_rank() -> tuple[int, int]:
    import os

    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    try:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        return 0, 1
