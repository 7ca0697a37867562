"""Captured hardness without times: the form of a result, and its table."""

from __future__ import annotations

from typing import Any

from harness.measuring.schema import RESULT, Table, flag, number, optional, text
from harness.reporting.tables import table

SETTING = {
    "name": text,
    "selector": text,
    "candidates": number(1),
    "captured": number(),
    "captured_error": number(0),
    # in units of the exact gap of four candidates
    "of_four": number(),
    "of_four_error": number(0),
    # null where rows choose no local views
    "of_four_first_locals": optional(number()),
    "of_four_first_locals_error": optional(number(0)),
}
HARDNESS = {
    "bench": text,
    "question": text,
    "quick": flag,
    "conditions": RESULT["conditions"],
    "settings": [SETTING],
    "not_run": Table(text, least=0),
}
HEADER = ["setting", "hardness (error)", "with the first local views", "of own candidates"]


def cells(result: dict[str, Any]) -> list[list[str]]:
    """The rows of the table, the hardest first."""
    return [
        [
            its["name"],
            _with_error(its["of_four"], its["of_four_error"]),
            _with_error(its["of_four_first_locals"], its["of_four_first_locals_error"]),
            _with_error(its["captured"], its["captured_error"]),
        ]
        for its in sorted(result["settings"], key=lambda its: -its["of_four"])
    ]


def report(result: dict[str, Any]) -> str:
    """The table in words."""
    sizes, how = result["conditions"]["sizes"], result["conditions"]["settings"]
    head = f"{how['network']}, weights {how['weights']}; hardness on {sizes['images_looked_at']} images (standard error)"
    return "\n\n".join(["QUICK RUN: the numbers mean nothing"] * result["quick"] + [head, table(HEADER, cells(result))])


def _with_error(value: float | None, error: float | None) -> str:
    return "-" if value is None else f"{value:.2f} ({error:.2f})"
