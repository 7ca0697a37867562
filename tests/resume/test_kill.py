"""A handful of kills; docs/robustness.md has the result of hundreds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import resumable


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch is built without distributed")
def test_killed_runs_go_on_exactly() -> None:
    # in a process of its own, since it forks: nothing of the tests before shall be in its memory
    command = [sys.executable, str(Path(__file__).with_name("kill.py")), "--kills", "6", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    kills = re.search(r"^(\d+) kills in (\d+) runs.*: 0 runs differ", done.stdout, re.MULTILINE)
    assert kills and int(kills[1]) >= 6 and int(kills[2]) >= 1


def log(run: Path, segment: int, rank: int, *entries: str) -> None:
    (run / f"log-{segment}-{rank}.jsonl").write_text("".join(entries))


def step(number: int, sample: int) -> str:
    return f'{{"step": {number}, "epoch": 0, "index": [{sample}], "rows": ["r{sample}"], "views": ["v"]}}\n'


def test_a_history_leaves_out_what_was_done_again(tmp_path: Path) -> None:
    begins = '{"begins after": 0, "world_size": 2}\n'
    # killed in its fourth step, while a line was written, after a checkpoint of the second
    log(tmp_path, 0, 0, begins, step(1, 0), step(2, 2), step(3, 4), step(4, 99))
    log(tmp_path, 0, 1, begins, step(1, 1), step(2, 3), step(3, 5), step(4, 99)[:20])
    log(tmp_path, 1, 0, begins)  # killed before both ranks had begun
    log(tmp_path, 2, 0, '{"begins after": 2, "world_size": 1}\n', step(3, 4), step(4, 5))
    assert [each["index"] for each in resumable.history(tmp_path)] == [[0, 1], [2, 3], [4], [5]]


def test_a_history_with_a_gap_is_noticed(tmp_path: Path) -> None:
    log(tmp_path, 0, 0, '{"begins after": 0, "world_size": 1}\n', step(1, 0))
    log(tmp_path, 1, 0, '{"begins after": 2, "world_size": 1}\n', step(3, 2))
    with pytest.raises(AssertionError, match="steps are missing"):
        resumable.history(tmp_path)
