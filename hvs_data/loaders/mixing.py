"""The order of a mixture's epoch: from (seed, epoch, position) to an image, without anything stored that grows with the epoch.

The positions are permuted as those of any epoch, so that the parts are mixed, and every part has its number of them. The k-th draw of a
part in epoch e is the draw number e * n + k of its own, n being how many it has in an epoch: its images are gone through pass by pass,
each pass in a permutation of its own.
"""

# Axes: D draw, P part.

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hvs_data.drawing.philox import philox_4x32, split_64, to_unit
from hvs_data.errors import SourceError
from hvs_data.loaders.order import ROUNDS, EpochOrder, permuted
from hvs_data.sources.base import Source
from hvs_data.sources.mixture import Mixture

# Purposes of random words, beside that of an epoch's order.
_PASS, _PLACE = 254 << 24, 253 << 24


@dataclass(frozen=True)
class MixtureOrder(EpochOrder):
    """As an :class:`EpochOrder`, but it returns keys: index + images of the source * a number that differs between the times that an image
    comes in an epoch.

    Attributes:
        source: the mixture.
    """

    source: Mixture = field(kw_only=True)

    def __call__(self, position: ArrayLike) -> NDArray[np.int64]:
        source = self.source
        position = np.asarray(position, np.int64) % self.length
        number, repeat = np.divmod(position.ravel(), source.repeats)
        if source.indices is not None:
            index, times = self._of_the_user[0][number], self._of_the_user[1][number]
        else:
            drawn = self._among_draws(number)
            index, times = self._by_weight(drawn) if source.weight_N is not None else self._of_parts(drawn)
        return (index + len(source) * (times * source.repeats + repeat)).reshape(position.shape)

    @cached_property
    def _among_draws(self) -> EpochOrder:
        return EpochOrder(self.source.draws, self.seed, self.epoch, self.shuffle)

    def _of_parts(self, drawn_D: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Index of draws that are numbered part by part, and the pass in which each comes, counted from where the epoch begins."""
        source = self.source
        end_P = np.cumsum(source.draws_P)
        part_D = np.searchsorted(end_P, drawn_D, side="right")
        count_D = source.draws_P[part_D]
        first_D = self.epoch * count_D  # of its part's draws since the first epoch
        overall_D = first_D + drawn_D - (end_P[part_D] - count_D)
        length_D = np.diff(source.start_P)[part_D]
        pass_D, place_D = np.divmod(overall_D, length_D)
        if self.shuffle:
            columns_D = np.sqrt(length_D).astype(np.int64) + 1
            place_D = permuted(place_D, length_D, columns_D, self._keys(part_D, pass_D))
        index_D = source.start_P[part_D] + place_D
        return (index_D if source.place_N is None else source.place_N[index_D]), pass_D - first_D // length_D

    def _keys(self, part_D: NDArray[np.int64], pass_D: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Keys [ROUNDS, D] of the permutations of parts in their passes."""
        counter = (part_D, pass_D & 0xFFFFFFFF, pass_D >> 32, _PASS + np.arange(ROUNDS)[:, None])
        words = philox_4x32(counter, split_64(self.seed)).astype(np.uint64)
        return words[..., 0] << np.uint64(32) | words[..., 1]

    def _by_weight(self, drawn_D: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Index of draws, one in each of so many equal parts of the sum of all weights, and how often it came before (or one more)."""
        weight_N, draws = self.source.weight_N, self.source.draws
        assert weight_N is not None
        low, high = drawn_D & 0xFFFFFFFF, drawn_D >> 32
        within_D = to_unit(philox_4x32((low, high, self.epoch, _PLACE), split_64(self.seed))[:, 0])
        total = weight_N[-1]
        last = int(np.searchsorted(weight_N, total))  # the last one whose weight is not 0
        index_D = np.minimum(np.searchsorted(weight_N, (drawn_D + within_D) / draws * total, side="right"), last)
        before_D = np.where(index_D > 0, weight_N[index_D - 1], 0.0)
        # a little less than where its part of the sum begins, so that no rounding makes it come after its first draw
        return index_D, drawn_D - np.floor(before_D / total * draws * (1 - 2.0**-50)).astype(np.int64)

    @cached_property
    def _of_the_user(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices of the epoch, and how often each came before."""
        source = self.source
        assert source.indices is not None
        index_D = np.asarray(source.indices(self.epoch))
        if index_D.shape != (source.draws,) or index_D.dtype.kind not in "iu" or index_D.min() < 0 or index_D.max() >= len(source):
            raise SourceError(
                f"expected {source.draws} whole numbers in [0, {len(source)}) as indices of epoch {self.epoch}, as in epoch 0, got "
                f"{index_D.dtype} of shape {index_D.shape}; correct what mixture(indices=) was given"
            )
        order_D = np.argsort(index_D, kind="stable")
        in_order = index_D[order_D]
        times_D = np.empty(len(index_D), np.int64)
        times_D[order_D] = np.arange(len(index_D)) - np.searchsorted(in_order, in_order)
        return index_D.astype(np.int64), times_D


def epoch_images(source: Source) -> int:
    """Images of an epoch of a source."""
    return source.images if isinstance(source, Mixture) else len(source)


def order_of(source: Source, seed: int, epoch: int, shuffle: bool) -> EpochOrder:
    """The order of an epoch of a source."""
    if isinstance(source, Mixture):
        return MixtureOrder(source.images, seed, epoch, shuffle, source=source)
    return EpochOrder(len(source), seed, epoch, shuffle)
