"""Conditions, machine names, tests before times."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import common
import pytest
from schema import ResultError


@pytest.mark.parametrize(
    ("model", "cores", "name"),
    [
        ("Intel(R) Xeon(R) Processor", 2, "intel-xeon-2-cores"),
        ("Intel(R) Xeon(R) Platinum 8480+ CPU @ 2.00GHz", 16, "intel-xeon-platinum-8480-16-cores"),
        ("AMD EPYC 7763 64-Core Processor", 1, "amd-epyc-7763-1-core"),
        ("aarch64", 4, "aarch64-4-cores"),
    ],
)
def test_a_machine_is_named_after_its_processor(model: str, cores: int, name: str) -> None:
    assert common.machine_name(model, cores) == name


def test_a_machine_that_is_held_down_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = common.machine_name(common.cpu_model(), 2)
    monkeypatch.setenv("HVS_DATA_HELD_DOWN_TO", "avx2")
    held = common.machine_name(common.cpu_model(), 2)
    assert held != whole and held.endswith("-held-down-to-avx2-2-cores")


def test_conditions_say_what_a_reader_needs() -> None:
    its = common.conditions(data={}, sizes={"view": 8}, recipe="simsiam", seeds=[0], repeats=5, settings={})
    assert its["device"]["cores"] == len(os.sched_getaffinity(0))
    assert its["device"]["name"] == common.cpu_model() != ""
    assert its["device"]["memory_gib"] > 0
    assert its["versions"]["python"] == platform.python_version()
    assert {"torch", "numba", "simplejpeg", "linux"} <= set(its["versions"])
    assert its["time"].endswith("+00:00")


def test_the_commit_is_that_of_the_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    git = common.ROOT / ".git"
    if git.exists():
        assert len(common.conditions(data={}, sizes={}, recipe="r", seeds=[0], repeats=5, settings={})["commit"]) == 40
    monkeypatch.setattr(common, "ROOT", tmp_path)
    its = common.conditions(data={}, sizes={}, recipe="r", seeds=[0], repeats=5, settings={})
    assert (its["commit"], its["uncommitted_changes"]) == ("unknown", False)


def test_nothing_is_timed_when_its_tests_fail(tmp_path: Path) -> None:
    test = tmp_path / "test_it.py"
    test.write_text("def test_it():\n    assert 1 == 2\n")
    with pytest.raises(SystemExit, match="nothing is timed"):
        common.refuse_if_tests_fail([str(test)])
    with pytest.raises(SystemExit, match="nothing is timed"):
        common.refuse_if_tests_fail([str(tmp_path / "test_that_is_not_there.py")])
    test.write_text("def test_it():\n    assert 2 == 2\n")
    common.refuse_if_tests_fail([str(test)])


def test_an_incomplete_result_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ResultError):
        common.write_result({"bench": "loader_cpu"}, tmp_path)
    assert list(tmp_path.iterdir()) == []
