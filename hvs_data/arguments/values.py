"""Numbers and lists as arguments bring them: plain ones, and those of numpy, torch and omegaconf (Hydra's configurations)."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch


def whole_number(value: Any) -> int | None:
    """The whole number that a value is: of anything that can be an index, which floats cannot, even 8.0. None for others, and for bools."""
    if _is_bool(value) or getattr(value, "ndim", None):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def real_number(value: Any) -> float | None:
    """The number that a value is, whole or not. None for others, and for bools."""
    if (whole := whole_number(value)) is not None:
        # what a float cannot hold is past every bound
        return float(whole) if abs(whole) < 2**1000 else math.inf if whole > 0 else -math.inf
    if _is_bool(value) or not isinstance(_item(value), Real):
        return None
    return float(_item(value))


def listed(value: Any) -> tuple[Any, ...] | None:
    """The items of a list of any kind, such as a tuple, omegaconf's ``ListConfig``, or of a 1-D array. None for others and texts."""
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return tuple(value.tolist()) if value.ndim == 1 else None
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray, memoryview)):
        return tuple(value)
    return None


def is_list_of_a_configuration(value: Any) -> bool:
    """Whether a value is omegaconf's ``ListConfig``: one of any other class may be a dataset."""
    omegaconf = sys.modules.get("omegaconf")  # where it is not loaded, nothing is of its classes
    return omegaconf is not None and isinstance(value, omegaconf.ListConfig)


def _is_bool(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_)) or getattr(value, "dtype", None) in (torch.bool, np.bool_)


def _item(value: Any) -> Any:
    """The number in an array or tensor of no axes."""
    return value.item() if isinstance(value, (np.ndarray, torch.Tensor)) and value.ndim == 0 else value


def type_name(value: Any) -> str:
    return "None" if value is None else type(value).__name__
