"""Functions in processes of their own."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from harness.measuring.machine import cores
from harness.measuring.processes import in_a_process


def test_a_function_answers_from_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVS_DATA_TRIED", "here")
    assert in_a_process(math.fsum, [0.5, 2]) == 2.5
    assert in_a_process(os.getenv, "HVS_DATA_TRIED") == "here"
    assert in_a_process(os.getenv, "HVS_DATA_TRIED", {"HVS_DATA_TRIED": "there"}) == "there"


def test_a_failure_comes_with_its_message() -> None:
    with pytest.raises(RuntimeError, match=r"math\.sqrt failed(?s:.*)ValueError"):
        in_a_process(math.sqrt, -1)
    # bench is on its path: the module is found, and the function takes no argument
    with pytest.raises(RuntimeError, match=r"cores\(\) takes 0 positional arguments"):
        in_a_process(cores, None)


def test_folders_of_the_working_directory_are_no_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "statistics.py").write_text("def fmean(values):\n    return 'the wrong one'\n")
    monkeypatch.chdir(tmp_path)
    assert in_a_process(__import__("statistics").fmean, [1, 2]) == 1.5
