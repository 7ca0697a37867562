"""Counter-based random numbers: Philox 4x32-10, vectorised over NumPy arrays.

The generator is a keyed bijection on 128-bit counters, so a number depends on *what it is for* (its key and counter) and
never on what was drawn before it. Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

MULTIPLIER_0, MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10  # the published, crush-resistant setting
TWO_TO_MINUS_32 = 2.0**-32

_LOW_32 = np.uint64(0xFFFFFFFF)
_SHIFT_32 = np.uint64(32)


def philox_4x32(
    counter: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike], key: tuple[int, int], rounds: int = ROUNDS
) -> NDArray[np.uint32]:
    """Encrypt counters to random words.

    Args:
        counter: four arrays of 32-bit words (any integer dtype, values in [0, 2**32)), broadcast against each other.
        key: two 32-bit words.
        rounds: fewer are for tests.

    Returns:
        uint32 array of shape ``broadcast(counter) + (4,)``, each word uniform over [0, 2**32).
    """
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(word).astype(np.uint64) for word in counter))
    key_0, key_1 = key
    for _ in range(rounds):
        product_0 = c0 * np.uint64(MULTIPLIER_0)
        product_1 = c2 * np.uint64(MULTIPLIER_1)
        c0, c1, c2, c3 = (
            (product_1 >> _SHIFT_32) ^ c1 ^ np.uint64(key_0),
            product_1 & _LOW_32,
            (product_0 >> _SHIFT_32) ^ c3 ^ np.uint64(key_1),
            product_0 & _LOW_32,
        )
        key_0 = (key_0 + WEYL_0) & 0xFFFFFFFF
        key_1 = (key_1 + WEYL_1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def split_64(value: int) -> tuple[int, int]:
    """Low and high 32-bit words of a non-negative integer below 2**64."""
    return value & 0xFFFFFFFF, value >> 32


def to_unit(words: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Map words to float64 strictly inside (0, 1): the centres of 2**32 equal intervals.

    ``to_unit(w) < p`` is therefore never true for p = 0 and always true for p = 1.
    """
    return (words.astype(np.float64) + 0.5) * TWO_TO_MINUS_32


def to_integer(words: NDArray[np.uint32], size: ArrayLike) -> NDArray[np.int64]:
    """Map words to integers in [0, size), size below 2**31; the bias of any value is below size / 2**32."""
    return ((words.astype(np.uint64) * np.asarray(size).astype(np.uint64)) >> _SHIFT_32).astype(np.int64)
