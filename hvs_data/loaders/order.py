"""The order of an epoch, and each rank's share of it: computed from (seed, epoch) and a position, never stored.

The order is a keyed permutation: a Feistel network over a rectangle of whole numbers that is little larger than the epoch, walked
until it lands inside. Sources: Black & Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002 (generalised Feistel, cycle
walking); Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 (the mixing of each round, whose keys come
from Philox).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hvs_data.drawing.philox import philox_4x32, split_64, to_integer

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
        columns = math.isqrt(self.length - 1) + 1
        return permuted(index.ravel(), self.length, columns, self._round_keys).reshape(index.shape)

    def stand_in(self, position: int, attempt: int) -> int:
        """Position of the sample that stands for the one at a position, if that cannot be read: another one for each attempt below length.

        A function of the position alone, so that batch size and ranks do not matter. Up to three attempts lie about a seventh of the
        epoch or more from the position and from each other: in batches smaller than that, no image stands twice.
        """
        return (position + attempt * self._stride) % self.length

    @cached_property
    def _stride(self) -> int:
        """About the golden section of the length, multiples of which lie evenly; with no divisor in common, so that all are reached."""
        golden = round(self.length * (math.sqrt(5) - 1) / 2)
        near = (golden + side * away for away in range(self.length) for side in (1, -1))
        return next(stride for stride in near if 0 < stride <= self.length and math.gcd(stride, self.length) == 1)

    @cached_property
    def _round_keys(self) -> list[np.uint64]:
        low, high = split_64(self.length)
        words = philox_4x32((low, high, self.epoch, _ORDER + np.arange(ROUNDS)), split_64(self.seed)).astype(np.uint64)
        return list(words[:, 0] << np.uint64(32) | words[:, 1])


def permuted(value_D: NDArray[np.int64], length: Any, columns: Any, round_keys: Any) -> NDArray[np.int64]:
    """Values in [0, length) under a keyed permutation of these numbers.

    Args:
        value_D: int64 [D].
        length: one for all, or int64 [D].
        columns: of the rectangle, about the length's root, in the same form.
        round_keys: ``ROUNDS`` of uint64, or of uint64 [D].
    """
    index_D = _permuted_rectangle(value_D, length, columns, round_keys)
    while (outside := index_D >= length).any():
        its = [part[..., outside] if isinstance(part, np.ndarray) else part for part in (length, columns, round_keys)]
        index_D[outside] = _permuted_rectangle(index_D[outside], *its)
    return index_D


def _permuted_rectangle(value: NDArray[np.int64], length: Any, columns: Any, round_keys: Any) -> NDArray[np.int64]:
    """A permutation of [0, rows * columns), rows * columns >= length."""
    rows = -(-length // columns)
    row, column = np.divmod(value, columns)
    for number, round_key in enumerate(round_keys):
        if number % 2 == 0:
            row = (row + to_integer(_mixed(column, round_key), rows)) % rows
        else:
            column = (column + to_integer(_mixed(row, round_key), columns)) % columns
    return row * columns + column


def _mixed(value: NDArray[np.int64], key: Any) -> NDArray[np.uint32]:
    """32 random-looking bits of each value under a key."""
    mixed = value.astype(np.uint64) + key
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (mixed >> np.uint64(32)).astype(np.uint32)


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
