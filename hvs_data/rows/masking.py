"""Masks of a view's patches, drawn by the view's identity: the same view has the same mask in any batch, order or process.

The algorithm is that of iBOT's loader (github.com/bytedance/ibot), in which it follows BEiT's: rectangles are put down one after
the other, each at most as large as what is still to be masked, until the view's share is reached.
"""

# Axes: B image, V view slot, N mask, G H sides of a grid of patches, P patch.

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hvs_data.arguments.sizes import Size, height_width
from hvs_data.drawing.philox import philox_4x32, split_64, to_integer, to_unit
from hvs_data.recipes.masking import Masking

TRIES = 10

# Apart from the rows' own words, which use the seed itself as the key. The numbers are part of the masks' definition and never change.
_DOMAIN = 0x6D61736B
_RATIO, _FIRST_TRY = 0, 1


def sample_masks(
    masking: Masking, *, seed: int, epoch: int, index: NDArray[np.int64], slots: NDArray[np.uint64], grid: Size
) -> NDArray[np.bool_]:
    """Draw the mask of every view of a batch.

    Args:
        masking: the distribution.
        seed: from 0 to 2**64 - 1.
        epoch: from 0 to 2**32 - 1.
        index: int64 [B], each image's index in its source, at least 0.
        slots: uint64 [V] below 2**32, what tells the views of one image apart.
        grid: G, patches along both sides of a view, or (G, H) along its height and its width.

    Returns:
        bool [B, V, G, H], True where a patch is hidden.
    """
    words = _Words(seed, epoch, index, slots)
    share_N = _shares(masking, words, epoch)
    sides = height_width(grid)
    masks_NGH = _blocks(masking, words, share_N, sides) if masking.shape == "block" else _scattered(words, share_N, sides)
    return masks_NGH.reshape(len(index), len(slots), *sides)


class _Words:
    """The random words of N = B * V masks, by number."""

    def __init__(self, seed: int, epoch: int, index_B: NDArray[np.int64], slot_V: NDArray[np.uint64]):
        key_0, key_1 = philox_4x32((epoch, 0, 0, _DOMAIN), split_64(seed))[:2].tolist()
        self._key = (key_0, key_1)
        index_N = np.repeat(index_B.astype(np.uint64), len(slot_V))
        self._low_N, self._high_N = index_N & np.uint64(0xFFFFFFFF), index_N >> np.uint64(32)
        self._slot_N = np.tile(slot_V, len(index_B))

    def __len__(self) -> int:
        return len(self._slot_N)

    def __call__(self, number: int, which: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.uint32]:
        """Block ``number`` of some masks: uint32 [n, 4]."""
        return philox_4x32((self._low_N[which], self._high_N[which], self._slot_N[which], number), self._key)


def _shares(masking: Masking, words: _Words, epoch: int) -> NDArray[np.float64]:
    if epoch < masking.start_epoch:
        return np.zeros(len(words))
    drawn = words(_RATIO)
    choice_N = to_integer(drawn[:, 0], len(masking.ratio))
    ratio_N, variance_N = np.array(masking.ratio)[choice_N], np.array(masking.variance)[choice_N]
    return ratio_N + variance_N * (2 * to_unit(drawn[:, 1]) - 1)


def _scattered(words: _Words, share_N: NDArray[np.float64], sides: tuple[int, int]) -> NDArray[np.bool_]:
    patches = sides[0] * sides[1]
    blocks = [words(_FIRST_TRY + number) for number in range(-(-patches // 4))]
    order_NP = np.concatenate(blocks, axis=1)[:, :patches].argsort(axis=1, kind="stable")
    masks_NP = np.zeros((len(words), patches), dtype=bool)
    np.put_along_axis(masks_NP, order_NP, np.arange(patches) < np.floor(share_N * patches)[:, None], axis=1)
    return masks_NP


def _blocks(masking: Masking, words: _Words, share_N: NDArray[np.float64], sides: tuple[int, int]) -> NDArray[np.bool_]:
    """All masks side by side: round r is the r-th try of every mask that is not finished."""
    wanted_N = share_N * sides[0] * sides[1]
    masks_NGH = np.zeros((len(words), *sides), dtype=bool)
    masked_N = np.zeros(len(words), dtype=np.int64)
    failed_N = np.zeros(len(words), dtype=np.int64)
    number = _FIRST_TRY
    open_n = np.flatnonzero(masked_N < wanted_N)
    while open_n.size:
        left_n = wanted_N[open_n] - masked_N[open_n]
        box_nGH, fits_n = _rectangles(masking, words(number, open_n), left_n, sides)
        new_nGH = box_nGH & ~masks_NGH[open_n]
        added_n = new_nGH.sum(axis=(1, 2))
        taken_n = fits_n & (added_n > 0) & (added_n <= left_n)
        taken = open_n[taken_n]
        masks_NGH[taken] |= new_nGH[taken_n]
        masked_N[taken] += added_n[taken_n]
        failed_N[open_n] = np.where(taken_n, 0, failed_N[open_n] + 1)
        open_n = open_n[(failed_N[open_n] < TRIES) & (masked_N[open_n] < wanted_N[open_n])]
        number += 1
    return masks_NGH


def _rectangles(
    masking: Masking, words_n4: NDArray[np.uint32], largest_n: NDArray[np.float64], sides: tuple[int, int]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """One rectangle a mask, of at most so many patches or the least area: bool [n, G, H], and whether it is smaller than the grid."""
    unit_n4 = to_unit(words_n4)
    least = (min(sides) // 3) ** 2
    area_n = least + (largest_n - least) * unit_n4[:, 0]
    low, high = np.log(masking.aspect)
    aspect_n = np.exp(low + (high - low) * unit_n4[:, 1])
    height_n = np.rint(np.sqrt(area_n * aspect_n)).astype(np.int64)
    width_n = np.rint(np.sqrt(area_n / aspect_n)).astype(np.int64)
    fits_n = (height_n < sides[0]) & (width_n < sides[1])
    top_n = to_integer(words_n4[:, 2], np.where(fits_n, sides[0] - height_n + 1, 1))
    left_n = to_integer(words_n4[:, 3], np.where(fits_n, sides[1] - width_n + 1, 1))
    row_G, column_H = np.arange(sides[0]), np.arange(sides[1])
    rows_nG = (row_G >= top_n[:, None]) & (row_G < (top_n + height_n)[:, None])
    columns_nH = (column_H >= left_n[:, None]) & (column_H < (left_n + width_n)[:, None])
    return rows_nG[:, :, None] & columns_nH[:, None, :], fits_n
