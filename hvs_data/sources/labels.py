"""Labels as they come: what may be one, and how a caller says that there are none."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvs_data.errors import SourceError
from hvs_data.sources.base import NO_LABEL

# The value of `label=` that finds the labels by their usual names. None stands for no labels, whatever there is.
FIND = "auto"
WITHOUT = "pass hvs.open_source(..., label=None) to go without labels"

_LEAST, _PAST = -(2**63), 2**63


def checked_label(label: Any, name: str) -> int:
    """A label as a plain int; -1 for None.

    Args:
        name: of the sample, for messages.

    Raises:
        SourceError: no integer, or one past 64 bits.
    """
    if label is None:
        return NO_LABEL
    try:
        number = operator.index(label)
    except TypeError:
        raise SourceError(
            f"{name}: expected an integer label, got {type(label).__name__}; map it to one (target_transform=), -1 where there is none, or "
            f"{WITHOUT}"
        ) from None
    if not _LEAST <= number < _PAST:
        raise SourceError(f"{name}: expected a label that fits 64 bits, got {number}; number the classes from 0, or {WITHOUT}")
    return number


def checked_labels(labels: Sequence[Any], kind: str) -> NDArray[np.int64]:
    """int64 [N] of many labels; errors as :func:`checked_label`, of the first one that is none."""
    array = np.asarray(labels, dtype=None if all(isinstance(label, int) for label in labels) else object)
    if array.dtype.kind == "i" and array.ndim == 1:
        return array.astype(np.int64, copy=False)
    return np.array([checked_label(label, f"{kind}[{number}]") for number, label in enumerate(labels)], np.int64)
