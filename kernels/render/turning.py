"""Turns and vertical flips as what is left to do with a view that has been mirrored horizontally, as every renderer does first."""

# Axes: B image, V view.

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hvs_data.types.rows import ViewParams


def after_mirror(params: ViewParams) -> tuple[NDArray[np.bool_], NDArray[np.int64]] | None:
    """A vertical flip, bool [B, V], and then quarter turns counterclockwise, int64 [B, V]; None where rows have neither.

    These are the row's own, as it turns last.
    """
    if params.vertical_flip is None and params.turn is None:
        return None
    flip_BV = np.zeros(params.flip.shape, bool) if params.vertical_flip is None else params.vertical_flip.numpy()
    turn_BV = np.zeros(params.flip.shape, np.int64) if params.turn is None else params.turn.numpy().astype(np.int64)
    return flip_BV, turn_BV
