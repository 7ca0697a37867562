"""Channels that a view loses, drawn by the view's identity."""

# Axes: B image, V view slot, M set of channels.

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from hvs_data.drawing.philox import philox_4x32, split_64, to_integer, to_unit
from hvs_data.kernels.rows.slots import DROP
from hvs_data.recipes.spec import Recipe


def sample_dropped(recipe: Recipe, *, seed: int, epoch: int, index: NDArray[np.int64], slots: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Draw which channels each view loses: every set of as many channels with the same probability.

    Args:
        recipe: of the views, V slots.
        seed: from 0 to 2**64 - 1.
        epoch: from 0 to 2**32 - 1.
        index: int64 [B], each image's index in its source, at least 0.
        slots: uint64 [V] below 2**24, what tells the views of one image apart.

    Returns:
        int32 [B, V], bit c is set where channel c is lost.
    """
    index_B1 = index[:, None].astype(np.uint64)
    counter = (index_B1 & np.uint64(0xFFFFFFFF), index_B1 >> np.uint64(32), epoch, np.uint64(DROP << 24) | slots[None, :])
    words_BV4 = philox_4x32(counter, split_64(seed))
    dropped_BV = np.zeros(words_BV4.shape[:2], np.int32)
    for slot, role in enumerate(recipe.slot_roles):
        if role.channel_drop > 0:
            sets_M = _sets(recipe.channels, role.dropped_channels)
            lost_B = sets_M[to_integer(words_BV4[:, slot, 1], len(sets_M))]
            dropped_BV[:, slot] = np.where(to_unit(words_BV4[:, slot, 0]) < role.channel_drop, lost_B, 0)
    return dropped_BV


@lru_cache(maxsize=16)
def _sets(channels: int, dropped: int) -> NDArray[np.int32]:
    """All sets of so many of the channels, as bits."""
    return np.array([sum(1 << c for c in chosen) for chosen in combinations(range(channels), dropped)], np.int32)
