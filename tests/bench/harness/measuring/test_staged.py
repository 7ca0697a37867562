"""A run in stages: whatever happens to one of them, it is written down, and the next one runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.measuring import staged
from harness.measuring.staged import ABSENT, DONE, FAILED, LEFT_OUT, NO_DEVICE, TIMED_OUT, Outcome, Record, Stage, run_stage, run_stages

ROOT = Path(__file__).parents[4]

# what the processes of the stages import
STAGES = """
import os, subprocess, sys, time
from harness.measuring.staged import MissingHereError

def fine(number, **_):
    print("at work")
    for value in range(number):
        yield {"what": "value", "value": value}

def fails(number, **_):
    yield {"what": "value", "value": number}
    print("so far, so good")
    raise ValueError("no luck")

def hangs(number, **_):
    yield {"what": "value", "value": number}
    other = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"])
    print("child", other.pid)
    time.sleep(600)

def silent(number, **_):
    return iter(())

def misses(number, **_):
    raise MissingHereError("its program was not found")
    yield

def crashes(number, **_):
    yield {"what": "value", "value": number}
    os.kill(os.getpid(), 11)

def infinite(number, **_):
    yield {"what": "value", "value": float("nan")}
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "stages_of_a_test.py").write_text(STAGES)
    return {"PYTHONPATH": os.pathsep.join([str(ROOT / "bench"), str(tmp_path)])}


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path / "run.jsonl", tmp_path / "run.log")


def stage(name: str, seconds: float = 60, **options: Any) -> Stage:
    return Stage(name, seconds, f"stages_of_a_test:{name}", {"number": 3}, **options)


def last_line(record: Record) -> dict[str, Any]:
    return json.loads(record.path.read_text().splitlines()[-1])


def test_what_a_stage_finds_is_in_the_record(record: Record, environment: dict[str, str]) -> None:
    outcome = run_stage(stage("fine"), {"unused": 1}, record, 60, environment)
    assert (outcome.status, outcome.reason) == (DONE, "") and [its["value"] for its in outcome.findings] == [0, 1, 2]
    assert record.outcomes()["fine"].findings == outcome.findings and record.outcomes()["fine"].status == DONE
    assert "===== fine\nat work\n" in record.log.read_text()


@pytest.mark.parametrize(
    ("name", "status", "reason", "found", "tail"),
    [
        ("fails", FAILED, "ValueError: no luck", 1, "so far, so good"),
        ("silent", FAILED, "it ended well and found nothing", 0, ""),
        ("misses", ABSENT, "its program was not found", 0, None),
        ("crashes", FAILED, "ended by signal 11", 1, ""),
        ("infinite", FAILED, "ValueError: Out of range float values are not JSON compliant", 0, "Traceback"),
        ("nowhere", FAILED, "AttributeError: module 'stages_of_a_test' has no attribute 'nowhere'", 0, "Traceback"),
    ],
)
def test_whatever_goes_wrong_is_written_down_with_what_was_found_before(
    name: str, status: str, reason: str, found: int, tail: str | None, record: Record, environment: dict[str, str]
) -> None:
    outcome = run_stage(stage(name), {}, record, 60, environment)
    assert outcome.status == status and outcome.reason.startswith(reason) and len(outcome.findings) == found
    line = last_line(record)
    assert (line["event"], line["stage"], line["status"]) == ("end", name, status)
    assert ("tail" in line) == (tail is not None) and (tail or "") in line.get("tail", "")


def test_a_stage_that_hangs_is_ended_with_what_it_started(record: Record, environment: dict[str, str], monkeypatch: Any) -> None:
    monkeypatch.setattr(staged, "SECONDS_TO_END", 0.5)
    start = time.monotonic()
    outcome = run_stage(stage("hangs"), {}, record, 3, environment)
    assert time.monotonic() - start < 60
    assert (outcome.status, outcome.reason) == (TIMED_OUT, "ended after 3 s") and len(outcome.findings) == 1
    child = int(record.log.read_text().split()[-1])
    assert "child" in last_line(record)["tail"]
    for _ in range(100):  # the system takes a moment to put it away
        if not running(child):
            break
        time.sleep(0.1)
    assert not running(child)


def running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def run(record: Record, environment: dict[str, str], stages: Sequence[Stage], seconds: float = 600, **options: Any) -> dict[str, Outcome]:
    run_stages(stages, {}, record, seconds, environment, **options)
    return record.outcomes()


def test_a_failure_does_not_keep_the_next_stage_from_running(record: Record, environment: dict[str, str]) -> None:
    outcomes = run(record, environment, [stage("fails"), stage("fine")])
    assert [outcome.status for outcome in outcomes.values()] == [FAILED, DONE]


def test_what_is_done_is_not_done_again_unless_asked(record: Record, environment: dict[str, str], capsys: Any) -> None:
    stages = [stage("fails"), stage("fine")]
    run(record, environment, stages)
    outcomes = run(record, environment, stages)
    begun = [json.loads(line)["stage"] for line in record.path.read_text().splitlines() if '"start"' in line]
    assert begun == ["fails", "fine", "fails"] and "fine: done before" in capsys.readouterr().out
    assert len(outcomes["fine"].findings) == 3
    outcomes = run(record, environment, stages, again=True)
    # findings of an earlier attempt do not count beside those of the last one
    assert len(outcomes["fine"].findings) == 3 and record.path.read_text().count('"start"') == 5


def test_without_time_a_stage_is_left_out_and_a_shorter_one_still_runs(record: Record, environment: dict[str, str]) -> None:
    outcomes = run(record, environment, [stage("fails", seconds=1000), stage("fine", seconds=30)], seconds=60)
    assert (outcomes["fails"].status, outcomes["fine"].status) == (LEFT_OUT, DONE)
    assert outcomes["fails"].reason == "60 s were left, and it may take 1000 s"
    # it is no result: with more time it runs
    assert run(record, environment, [stage("fails")])["fails"].status == FAILED


def test_a_stage_gets_no_more_than_is_left(record: Record, environment: dict[str, str]) -> None:
    outcomes = run(record, environment, [stage("hangs", seconds=7)], seconds=4)
    assert outcomes["hangs"].status == TIMED_OUT and outcomes["hangs"].reason == "ended after 4 s"


def test_without_a_device_every_stage_says_so_and_stand_ins_run(record: Record, environment: dict[str, str]) -> None:
    stages = [stage("fine"), replace(stage("fails"), stand_in=False)]
    assert {(its.status, its.reason) for its in run(record, environment, stages, no_device="none here").values()} == {
        (NO_DEVICE, "none here")
    }
    outcomes = run(record, environment, stages, no_device="none here", stand_ins=True)
    assert (outcomes["fine"].status, outcomes["fails"].status) == (DONE, NO_DEVICE)


def test_a_line_that_was_torn_off_spoils_no_other(record: Record) -> None:
    record.add("start", "one")
    with record.path.open("a") as file:
        file.write('{"event": "finding", "stage": "on')
    record.add("finding", "one", value=1)
    assert record.outcomes() == {"one": Outcome(None, 0.0, "", [{"value": 1}])}


def test_what_was_found_under_other_conditions_does_not_count(record: Record) -> None:
    for name in ("first", "second"):
        record.add("start", name)
        record.add("end", name, status=DONE, seconds=1.0, reason="")
    record.add("anew", "second", kept=["second"])
    assert set(record.outcomes()) == {"second"}


def test_nothing_but_python_is_needed() -> None:
    code = "import sys, harness.measuring.staged, gpu_stages; print({'torch', 'numpy', 'hvs_data', 'PIL'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT / "bench")}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "set()", done.stderr
