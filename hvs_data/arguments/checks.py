"""What a number must be, as questions."""

from __future__ import annotations

import math
from typing import Any

from hvs_data.arguments.values import real_number, whole_number


def whole(value: Any) -> bool:
    """A whole number of at least 1."""
    return (whole_number(value) or 0) >= 1


def share(value: Any) -> bool:
    """A number from 0 to 1."""
    number = real_number(value)
    return number is not None and 0 <= number <= 1


def positive(value: Any) -> bool:
    """A finite number above 0."""
    number = real_number(value)
    return number is not None and 0 < number < math.inf
