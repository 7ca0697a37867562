"""NVIDIA's programs, played by scripts: what is asked of them, and what is read from what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.device import tools
from harness.measuring.staged import MissingHereError

ROOT = Path(__file__).parents[4]
# what ncu --csv --page raw writes: its own words, names, units, a line for each launch
TABLE = """==PROF== Connected to process 7
"ID","Process ID","Kernel Name","Context","Grid Size","CC","gpu__time_duration.sum","launch__registers_per_thread","smsp__inst_executed.sum"
"","","","","","","nsecond","register/thread","inst"
"0","7","fill_taps","1","(1024, 1, 1)","9.0","18,432","54","16,384,000"
"1","7","blur_rows, and more","1","(10752, 1, 1)","9.0","338944.5","64","n/a"
==PROF== Disconnected from process 7
"""


def test_launches_are_read_with_their_numbers_and_units() -> None:
    first, second = tools.launches_of(TABLE)
    assert first["name"] == "fill_taps" and first["grid"] == "(1024, 1, 1)"
    assert first["counted"] == {
        "gpu__time_duration.sum": 18432.0, "launch__registers_per_thread": 54.0, "smsp__inst_executed.sum": 16384000.0
    }  # fmt: skip
    assert first["units"]["gpu__time_duration.sum"] == "nsecond"
    # what was not counted is no number
    assert second["name"] == "blur_rows, and more" and set(second["counted"]) == {"gpu__time_duration.sum", "launch__registers_per_thread"}
    assert tools.launches_of("==ERROR== Failed to find metric\n") == []


def a_program(folder: Path, name: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program on the path that is a Python script; ``sys.argv`` holds what it was asked."""
    script = folder / name
    script.write_text(f"#!{sys.executable}\nimport os, subprocess, sys\n{code}")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "bench"))


RUN_IT = "child = sys.argv[sys.argv.index(sys.executable):]\nstatus = subprocess.run(child).returncode\n"


def test_counters_of_one_rendering(photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_program(tmp_path, "ncu", f"""{RUN_IT}
assert status == 0 and "--clock-control none" in " ".join(sys.argv)
with open(sys.argv[sys.argv.index("--log-file") + 1], "w") as file:
    file.write({TABLE!r} if "--metrics" in sys.argv else "")
""", monkeypatch)  # fmt: skip
    found = list(tools.counters(str(photo_folder), "cpu", quick=True))
    assert [its["name"] for its in found] == ["fill_taps", "blur_rows, and more"]


def test_a_program_that_does_not_know_the_counters_chooses_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_program(tmp_path, "ncu", f"""
with open(sys.argv[sys.argv.index("--log-file") + 1], "w") as file:
    file.write({TABLE!r} if "--section" in sys.argv else "==ERROR== Failed to find metric")
""", monkeypatch)  # fmt: skip
    assert len(list(tools.counters(None, "cpu", quick=True))) == 2


def test_no_counters_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_program(tmp_path, "ncu", "sys.exit(1)\n", monkeypatch)
    with pytest.raises(RuntimeError, match="expected counters of each launch"):
        list(tools.counters(None, "cpu", quick=True))


@pytest.mark.parametrize(("errors", "exit_status", "fine"), [(0, 0, True), (3, tools.FOUND_SOMETHING, False), (0, 1, False)])
def test_checks_of_a_tiny_rendering(errors: int, exit_status: int, fine: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_program(tmp_path, "compute-sanitizer", f"""
assert "tiny_rendering" in sys.argv[-1] and os.environ["PYTORCH_NO_CUDA_MEMORY_CACHING"] == "1"
if "memcheck" in sys.argv:
    print("========= ERROR SUMMARY: {errors} errors")
    sys.exit({exit_status})
print("========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)")
""", monkeypatch)  # fmt: skip
    checks = tools.checks(None, "cpu", quick=True)
    assert next(checks) == {"what": "check", "name": "memcheck", "errors": errors, "status": exit_status}
    assert next(checks) == {"what": "check", "name": "racecheck", "errors": 0, "status": 0}
    if fine:
        assert list(checks) == []
    else:
        with pytest.raises(RuntimeError, match="from memcheck"):
            next(checks)


@pytest.mark.parametrize("stage", [tools.counters, tools.checks])
def test_a_program_that_is_not_here_is_named(stage: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingHereError, match="was not found among the programs"):
        next(stage(None, "cpu", True))  # type: ignore[operator]


def test_what_is_rendered_while_they_look() -> None:
    done = subprocess.run(tools._python("tiny_rendering('cpu')"), env={**os.environ, "PYTHONPATH": str(ROOT / "bench")})
    assert done.returncode == 0
