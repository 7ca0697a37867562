"""Tables to be read in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, the first one to the left and all others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        aligned = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        return "  ".join([cells[0].ljust(widths[0]), *aligned[1:]]).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, rows)])


def figure(value: float | None, digits: int = 3) -> str:
    """A number with so many digits that count; "-" where there is none."""
    if value is None:
        return "-"
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    places = max(0, digits - len(f"{abs(value):.0f}")) if abs(value) >= 1 else digits
    return f"{value:.{places}f}"


class Notes:
    """Long remarks, replaced by letters and listed below a table."""

    def __init__(self) -> None:
        self._letter: dict[str, str] = {}

    def letter(self, remark: str) -> str:
        return self._letter.setdefault(remark, ascii_lowercase[len(self._letter)])

    def __str__(self) -> str:
        return "\n".join(f"  {letter}: {remark}" for remark, letter in self._letter.items())
