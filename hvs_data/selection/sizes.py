"""At which size candidates are scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from hvs_data.arguments.checks import share, whole
from hvs_data.arguments.sizes import Size, height_width, size_of
from hvs_data.arguments.values import real_number, whole_number
from hvs_data.errors import SelectionError

# The longer side in pixels, or below 1 a share of each view's own side; of all roles or for each by name; None for views as they are.
ScoreSize: TypeAlias = float | Mapping[str, float] | None


def checked_size(score_size: Any) -> ScoreSize:
    """The setting in plain numbers.

    Raises:
        SelectionError: a number that is no size.
    """
    plain = _plain(score_size)
    for name, value in _named(plain):
        if value is not None and not whole(value) and not (share(value) and 0 < value < 1):
            raise SelectionError(f"{name} must be a whole number of at least 1, a share of the size below 1, or None, got {value!r}")
    return plain


def scored_sizes(score_size: ScoreSize, roles: Sequence[str], sizes: Sequence[Size]) -> tuple[Size, ...]:
    """The size in pixels at which each view is scored, of its own shape, from the views' roles and own sizes; never a larger one."""
    if score_size is None:
        return tuple(sizes)
    if isinstance(score_size, Mapping):
        return tuple(_scored_size(own, score_size.get(role, _longer(own)), _longer(own)) for role, own in zip(roles, sizes, strict=True))
    return tuple(_scored_size(own, score_size, max(map(_longer, sizes))) for own in sizes)


def _scored_size(own: Size, size: float, largest: int) -> Size:
    """The size at which a view of the size ``own`` is scored, if ``size`` is the side of one of the side ``largest``, or a share of all."""
    share_of_own = size if size < 1 else min(1, size / largest)
    return size_of(*(max(1, round(side * share_of_own)) for side in height_width(own)))


def _longer(size: Size) -> int:
    return max(height_width(size))


def _plain(score_size: Any) -> Any:
    """Plain numbers in place of those of numpy and the like; what is no number stays, to be refused."""
    if isinstance(score_size, Mapping):
        return {role: _plain(size) for role, size in score_size.items()}
    return next((number for number in (whole_number(score_size), real_number(score_size)) if number is not None), score_size)


def _named(score_size: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(score_size, Mapping):
        yield "score_size", score_size
        return
    for role, size in score_size.items():
        yield f"score_size[{role!r}]", size
