"""The command for a machine with a CUDA device: what it does where there is none, and where stages fail, hang and go on."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import gpu_stages
from harness.measuring.staged import DONE, FAILED, LEFT_OUT, NO_DEVICE, TIMED_OUT, Outcome, Record, Stage

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, str(ROOT / "bench" / "gpu_stages.py")]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path / "gpu.jsonl", tmp_path / "gpu.log")


@pytest.fixture
def fake_stages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Stages of a test, and an environment whose device is written in a file: "null" where there is none."""
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "stages_of_a_device.py").write_text(
        "import json, os, pathlib\n"
        "def environment(data, device, quick):\n"
        "    there = json.loads(pathlib.Path(__file__).with_name('device').read_text())\n"
        "    yield {'what': 'machine', 'device': there}\n"
        "    yield {'what': 'conditions', 'conditions': {'device': there, 'time': os.urandom(4).hex()}}\n"
        "def asked(data, device, quick):\n"
        "    yield {'what': 'asked', 'data': data, 'device': device, 'quick': quick, 'cache': os.environ['TRITON_CACHE_DIR']}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    monkeypatch.setattr(gpu_stages, "ENVIRONMENT", Stage("environment", 60, "stages_of_a_device:environment"))
    set_device(tmp_path / "fake", "a device")
    return tmp_path / "fake"


def set_device(folder: Path, name: str | None) -> None:
    (folder / "device").write_text(json.dumps(name and {"name": name}))


ASKED = Stage("asked", 60, "stages_of_a_device:asked")


def run(record: Record, stages: list[Stage], **options: Any) -> dict[str, Outcome]:
    return gpu_stages.run(stages, record, "photos", 100, **{"wheels": None, "rehearse": False, "again": False, **options})


def test_without_a_device_every_stage_says_so(photo_folder: Path, tmp_path: Path) -> None:
    command = [*COMMAND, "--data", str(photo_folder), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 4, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["gpu.jsonl", "gpu.log"]
    outcomes = Record(tmp_path / "out" / "gpu.jsonl", Path()).outcomes()
    assert outcomes.pop("environment").status == DONE
    assert {name: its.status for name, its in outcomes.items()} == {stage.name: NO_DEVICE for stage in gpu_stages.STAGES}
    assert all(f"{name}: no device" in done.stdout for name in outcomes)


def test_a_limit_of_the_callers_ends_the_stage_under_way(photo_folder: Path, tmp_path: Path) -> None:
    process = subprocess.Popen([*COMMAND, "--data", str(photo_folder), "--out", str(tmp_path), "--rehearse", "--only", "resident"])
    record = Record(tmp_path / "gpu.jsonl", tmp_path / "gpu.log")
    deadline = time.monotonic() + 120
    while "resident" not in record.outcomes() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert record.outcomes()["resident"].status is None and record.outcomes()["environment"].status == DONE


def test_stages_are_asked_for_the_device_and_keep_what_they_compile_in_a_folder_that_is_gone(record: Record, fake_stages: Path) -> None:
    (finding,) = run(record, [ASKED])["asked"].findings
    assert (finding["data"], finding["device"], finding["quick"]) == ("photos", "cuda", False)
    assert finding["cache"].endswith("triton") and not Path(finding["cache"]).parent.exists()


def test_a_rehearsal_without_a_device_is_on_the_cpu(record: Record, fake_stages: Path) -> None:
    set_device(fake_stages, None)
    (finding,) = run(record, [ASKED], rehearse=True)["asked"].findings
    assert (finding["device"], finding["quick"]) == ("cpu", True)


def test_results_are_kept_until_the_conditions_are_others(record: Record, fake_stages: Path) -> None:
    def begun() -> int:
        return sum(1 for line in record.path.read_text().splitlines() if '"start"' in line and '"asked"' in line)

    other = Stage("other", 60, "stages_of_a_device:asked")
    run(record, [ASKED, other])
    assert set(run(record, [ASKED])) == {"environment", "asked", "other"} and begun() == 1
    run(record, [ASKED], again=True)
    assert begun() == 2
    set_device(fake_stages, "another device")
    assert set(run(record, [ASKED])) == {"environment", "asked"} and begun() == 3


def test_the_package_is_found_where_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(tmp_path / "package") not in gpu_stages.environment_of(tmp_path)["PYTHONPATH"].split(os.pathsep)
    monkeypatch.setattr(gpu_stages, "find_spec", lambda name: None)
    path = gpu_stages.environment_of(tmp_path)["PYTHONPATH"].split(os.pathsep)
    assert str(tmp_path / "package") in path and str(ROOT) not in path
    assert (tmp_path / "package" / "hvs_data" / "__init__.py").exists() and len(list((tmp_path / "package").iterdir())) == 1


@pytest.mark.parametrize(
    ("statuses", "rehearse", "expected"),
    [
        ([DONE, DONE], False, 0),
        ([DONE, "not here"], False, 0),
        ([DONE, FAILED, LEFT_OUT], False, 1),
        ([DONE, TIMED_OUT], False, 1),
        ([DONE, None], False, 1),
        ([DONE, LEFT_OUT], False, 3),
        ([DONE, NO_DEVICE], False, 4),
        ([DONE, NO_DEVICE], True, 0),
    ],
)
def test_the_exit_status_tells(statuses: list[str | None], rehearse: bool, expected: int) -> None:
    assert gpu_stages.exit_status({str(place): Outcome(status) for place, status in enumerate(statuses)}, rehearse) == expected


def test_every_stage_exists_and_the_first_ones_fit_a_command_of_ten_minutes() -> None:
    for stage in (gpu_stages.WHEELS, gpu_stages.ENVIRONMENT, *gpu_stages.STAGES):
        module, _, name = stage.function.partition(":")
        assert callable(getattr(importlib.import_module(module), name)), stage.name
        for tests in stage.arguments.get("tests", ()):
            assert (ROOT / tests).exists()
    names = [stage.name for stage in gpu_stages.STAGES]
    assert len(set(names)) == len(names)
    needed = [stage for stage in gpu_stages.STAGES[: names.index("other-tests")]]
    assert sum(stage.seconds for stage in (gpu_stages.WHEELS, gpu_stages.ENVIRONMENT, *needed)) <= gpu_stages.BUDGET < 600
