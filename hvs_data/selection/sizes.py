"""At which size candidates are scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from hvs_data.arguments.checks import share, whole
from hvs_data.arguments.values import real_number, whole_number
from hvs_data.errors import SelectionError

# A side in pixels, or below 1 a share of each view's own side; of all roles or for each by name; None for views as they are.
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


def scored_sizes(score_size: ScoreSize, roles: Sequence[str], sizes: Sequence[int]) -> tuple[int, ...]:
    """The side in pixels at which each view is scored, from the views' roles and their own sizes; never a larger one."""
    if score_size is None:
        return tuple(sizes)
    if isinstance(score_size, Mapping):
        return tuple(_scored_size(own, score_size.get(role, own), own) for role, own in zip(roles, sizes, strict=True))
    return tuple(_scored_size(own, score_size, max(sizes)) for own in sizes)


def _scored_size(own: int, size: float, largest: int) -> int:
    """The side at which a view of the side ``own`` is scored, if ``size`` is that of views of the side ``largest``, or a share of all."""
    share_of_own = size if size < 1 else min(1, size / largest)
    return max(1, round(own * share_of_own))


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
