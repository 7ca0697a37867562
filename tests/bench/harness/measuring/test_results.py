"""Conditions, machine names, tests before times."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from harness.measuring import machine, results
from harness.measuring.schema import ResultError


def test_conditions_say_what_a_reader_needs() -> None:
    its = results.conditions(data={}, sizes={"view": 8}, recipe="simsiam", seeds=[0], repeats=5, settings={})
    assert its["device"]["cores"] == len(os.sched_getaffinity(0))
    assert its["device"]["name"] == machine.cpu_model() != ""
    assert its["device"]["memory_gib"] > 0
    assert its["versions"]["python"] == platform.python_version()
    assert {"torch", "numba", "simplejpeg", "linux"} <= set(its["versions"])
    assert its["time"].endswith("+00:00")


def test_the_commit_is_that_of_the_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    git = results.ROOT / ".git"
    if git.exists():
        assert len(results.conditions(data={}, sizes={}, recipe="r", seeds=[0], repeats=5, settings={})["commit"]) == 40
    monkeypatch.setattr(results, "ROOT", tmp_path)
    its = results.conditions(data={}, sizes={}, recipe="r", seeds=[0], repeats=5, settings={})
    assert (its["commit"], its["uncommitted_changes"]) == ("unknown", False)


def test_an_incomplete_result_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ResultError):
        results.write_result({"bench": "loader_cpu"}, tmp_path)
    assert list(tmp_path.iterdir()) == []
