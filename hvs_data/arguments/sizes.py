"""Sizes of views in pixels: one number is the side of a square, two are height and width."""

from __future__ import annotations

from typing import Any, TypeAlias

from hvs_data.arguments.values import listed, whole_number

Size: TypeAlias = int | tuple[int, int]


def height_width(size: Size) -> tuple[int, int]:
    """Both sides of a size."""
    return (size, size) if isinstance(size, int) else size


def size_of(height: int, width: int) -> Size:
    """The size with these sides: one number where they are equal, so that equal sizes compare as equal."""
    return height if height == width else (height, width)


def plain_size(value: Any) -> Size | None:
    """The size that a value is, in plain numbers of at least 1; None for others."""
    given = listed(value)
    sides = [whole_number(side) for side in ((value, value) if given is None else given)]
    if len(sides) != 2 or any(side is None or side < 1 for side in sides):
        return None
    return size_of(*sides)  # type: ignore[arg-type]
