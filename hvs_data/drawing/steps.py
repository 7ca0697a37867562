"""Random numbers of a step: by what they are for, so that nothing global is consumed and every rank draws the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hvs_data.drawing.philox import philox_4x32, split_64, to_unit

# Apart from the words of rows, masks and orders under the same seed. The numbers are part of the draws' definition and never change.
_DOMAIN = 0x73656C65
# To score at all; which combination an image gets; what combinations are considered; whether an image or a step is left to chance.
WHETHER, WHICH, WHAT, MIXED = 0, 1, 2, 3


def unit_numbers(seed: int, step: int, purpose: int, count: int, stream: int = 0) -> NDArray[np.float64]:
    """Uniform numbers of one step.

    Args:
        seed: from 0 to 2**64 - 1.
        step: from 0 to 2**64 - 1.
        purpose: WHETHER, WHICH, WHAT or MIXED.
        count: how many.
        stream: from 0 to 2**32 - 1, tells series for the same purpose apart.

    Returns:
        float64 [count], in (0, 1).
    """
    key_0, key_1 = philox_4x32((*split_64(step), purpose, _DOMAIN), split_64(seed))[:2].tolist()
    words = philox_4x32((np.arange(-(-count // 4)), stream, 0, 0), (key_0, key_1))
    return to_unit(words.reshape(-1)[:count])


def numbers_of(key: NDArray[np.int64], seed: int, step: int, purpose: int) -> NDArray[np.float64]:
    """A uniform number of one step for each key, such as a view's: the same in any batch and on any rank.

    Args:
        key: int64 [B], from 0 to 2**63 - 1.
        seed, step, purpose: as of :func:`unit_numbers`.

    Returns:
        float64 [B], in (0, 1).
    """
    key_0, key_1 = philox_4x32((*split_64(step), purpose, _DOMAIN), split_64(seed))[:2].tolist()
    words = philox_4x32((key & 0xFFFFFFFF, key >> 32, 0, 1), (key_0, key_1))  # the last word tells them from unit_numbers'
    return to_unit(words[:, 0])
