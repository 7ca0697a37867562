"""Patterns with braces, as shells have them: ``train-{0000..0146}.tar``, ``{a,b}/{0..9}.tar``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hvs_data.errors import SourceError

# A slip such as {0..10000000000} is told, not carried out.
MAX_PATHS = 10**6

_NUMBERS = re.compile(r"(-?\d{1,18})\.\.(-?\d{1,18})(?:\.\.(-?\d{1,18}))?")
_LETTERS = re.compile(r"([a-z])\.\.([a-z])|([A-Z])\.\.([A-Z])")
_PADDED = re.compile(r"-?0\d")


def expand_braces(pattern: str) -> list[str]:
    """All paths that a pattern stands for, in the order in which a shell has them.

    ``{a,b}`` stands for each of its parts, which may hold braces again; ``{first..last}`` and ``{first..last..step}`` for whole
    numbers, padded with zeros to equal width if one of the bounds is, or for letters. Braces of any other kind stand for themselves.

    Raises:
        SourceError: more than ``MAX_PATHS`` paths.
    """
    paths: list[str] = []
    for path in _expanded(pattern):
        if len(paths) == MAX_PATHS:
            raise SourceError(f"expected a pattern of at most {MAX_PATHS} paths, got more from {pattern!r}; correct its bounds")
        paths.append(path)
    return paths


def _expanded(pattern: str) -> Iterator[str]:
    start = pattern.find("{")
    while start >= 0:
        stop, commas = _matching(pattern, start)
        alternatives = _alternatives(pattern, start, stop, commas) if stop else None
        if alternatives is not None:
            for middle in alternatives:
                for rest in _expanded(pattern[stop + 1 :]):
                    yield pattern[:start] + middle + rest
            return
        start = pattern.find("{", start + 1)
    yield pattern


def _matching(pattern: str, start: int) -> tuple[int, list[int]]:
    """Where the braces opened at ``start`` are closed, 0 if nowhere; and where the commas are that belong to them."""
    depth, commas = 0, []
    for position in range(start, len(pattern)):
        character = pattern[position]
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 1:
            commas.append(position)
        if depth == 0:
            return position, commas
    return 0, commas


def _alternatives(pattern: str, start: int, stop: int, commas: list[int]) -> Iterator[str] | None:
    """What a pair of braces stands for; None for itself."""
    if commas:
        bounds = [start, *commas, stop]
        parts = (pattern[left + 1 : right] for left, right in zip(bounds[:-1], bounds[1:], strict=True))
        return (text for part in parts for text in _expanded(part))
    inner = pattern[start + 1 : stop]
    if numbers := _NUMBERS.fullmatch(inner):
        first, last = numbers[1], numbers[2]
        width = max(len(first), len(last)) if _PADDED.match(first) or _PADDED.match(last) else 0
        return (f"{number:0{width}d}" for number in _range(int(first), int(last), int(numbers[3] or 1)))
    if letters := _LETTERS.fullmatch(inner):
        first, last = (letter for letter in letters.groups() if letter)
        return (chr(code) for code in _range(ord(first), ord(last), 1))
    return None


def _range(first: int, last: int, step: int) -> range:
    """Both bounds included, in whichever direction; the sign of the step counts for nothing, and 0 for 1."""
    step = abs(step) or 1
    return range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
