"""Tests come before times."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.measuring.tests_first import refuse_if_tests_fail


def test_nothing_is_timed_when_its_tests_fail(tmp_path: Path) -> None:
    test = tmp_path / "test_it.py"
    test.write_text("def test_it():\n    assert 1 == 2\n")
    with pytest.raises(SystemExit, match="nothing is timed"):
        refuse_if_tests_fail([str(test)])
    with pytest.raises(SystemExit, match="nothing is timed"):
        refuse_if_tests_fail([str(tmp_path / "test_that_is_not_there.py")])
    test.write_text("def test_it():\n    assert 2 == 2\n")
    refuse_if_tests_fail([str(test)])
