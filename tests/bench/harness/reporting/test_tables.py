"""Figures and tables."""

from __future__ import annotations

import pytest

from harness.reporting.tables import Notes, figure, table


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "-"),
        (0, "0.000"),
        (0.0123, "0.012"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (123.4, "123"),
        (12345.6, "12346"),
        (2.5e7, "2.50e+07"),
        (2.5e-5, "2.50e-05"),
    ],
)
def test_figures_have_three_digits_that_count(value: float | None, expected: str) -> None:
    assert figure(value) == expected


def test_columns_are_aligned() -> None:
    assert table(["name", "x"], [["a", "1"], ["long name", "100"]]).splitlines() == [
        "name         x",
        "---------  ---",
        "a            1",
        "long name  100",
    ]


def test_remarks_are_listed_once() -> None:
    notes = Notes()
    assert [notes.letter(remark) for remark in ("slow", "fast", "slow")] == ["a", "b", "a"]
    assert str(notes) == "  a: slow\n  b: fast"
