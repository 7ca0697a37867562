"""The command ``hvs-data``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import hvs_data as hvs
from hvs_data.commands.main import main
from hvs_data.demo.settings import Settings


class CalledError(Exception):
    """Carries what the demo was called with."""


@pytest.fixture
def demo_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: Any) -> None:
        raise CalledError(*arguments)

    monkeypatch.setattr("hvs_data.demo.run.run", run)


def test_the_version_is_told_without_loading_torch() -> None:
    loaded = "print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    code = f"import sys\nfrom hvs_data.commands.main import main\ntry: main(['--version'])\nfinally: {loaded}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"hvs_data {hvs.__version__}", "[]"]


def test_the_demo_uses_the_usual_settings(demo_calls: None) -> None:
    with pytest.raises(CalledError) as called:
        main(["demo"])
    assert called.value.args == (Settings(), "demo-report.html", None, "auto")


def test_options_reach_the_demo(demo_calls: None) -> None:
    options = "--minutes 0.5 --steps 7 --candidates 6 --size 96 --score-size 48 --batch-size 32 --learning-rate 0.3 --seed 5"
    with pytest.raises(CalledError) as called:
        main(["demo", *options.split(), "--published-colors", "--data", "photos", "--layout", "flat", "--report", "out.html"])
    settings = Settings(
        seconds=30,
        max_steps=7,
        candidates=6,
        size=96,
        score_size=48,
        published_colors=True,
        batch_size=32,
        learning_rate=0.3,
        seed=5,
    )
    assert called.value.args == (settings, "out.html", "photos", "flat")


def test_candidates_are_never_scored_larger_than_they_are_trained_on(demo_calls: None) -> None:
    with pytest.raises(CalledError) as called:
        main(["demo", "--size", "24"])
    assert called.value.args[0].score_size == 24


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["train"], "invalid choice: 'train'"),
        (["demo", "--candidates", "2"], "--candidates: expected a whole number of at least 3, got '2'"),
        (["demo", "--candidates", "four"], "expected a whole number of at least 3, got 'four'"),
        (["demo", "--minutes", "0"], "--minutes: expected a number above 0, got '0'"),
        (["demo", "--minutes", "nan"], "expected a number above 0, got 'nan'"),
        (["demo", "--seed", str(2**64)], "--seed: expected a whole number"),
        (["demo", "--layout", "nested"], "--layout: invalid choice: 'nested'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("hvs-data vi", {"views"}),
        ("hvs-data views --ob", {"--objective"}),
        ("hvs-data demo --layout ", {"auto", "classes", "flat"}),
    ],
)
def test_a_shell_completes_lines(line: str, expected: set[str], tmp_path: Path) -> None:
    """As the function does that register-python-argcomplete prints."""
    pytest.importorskip("argcomplete")
    answer = tmp_path / "answer"
    words = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}
    command = [sys.executable, "-c", "from hvs_data.commands.main import main; main()"]
    done = subprocess.run(command, env={**os.environ, **words, "_ARGCOMPLETE_IFS": "\n", "IFS": "\n"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {word.strip() for word in answer.read_text().split("\n")} == expected


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--data", str(tmp_path / "nowhere"), "--report", str(tmp_path / "r.html")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hvs-data: error: expected a folder of images, got ") and line.endswith("; check the path")


def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hvs_data.demo.run.run", run)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "hvs-data: stopped\n"


@pytest.mark.parametrize(("interrupted", "status"), [(False, 0), (True, 130)])
def test_the_exit_status_tells_whether_the_training_was_stopped(interrupted: bool, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Outcome:
        pass

    outcome = Outcome()
    outcome.interrupted = interrupted  # type: ignore[attr-defined]
    monkeypatch.setattr("hvs_data.demo.run.run", lambda *_: outcome)
    assert main(["demo"]) == status
