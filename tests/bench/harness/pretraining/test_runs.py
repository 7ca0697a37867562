"""The file of the runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.measuring.results import RESULTS
from harness.measuring.schema import ResultError
from harness.pretraining import runs
from harness.pretraining.experiments import EXPERIMENTS


def test_an_incomplete_line_is_neither_written_nor_read(line: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    file = runs.Runs(tmp_path / "pretrain.jsonl")
    file.add(line("vanilla", 0, 0.2))
    for wrong in ({"knn": None}, {"match": "luck"}, {"kind": "guess"}):
        with pytest.raises(ResultError):
            file.add({**line("vanilla", 1, 0.2), **wrong})
    assert len(file.lines()) == 1
    with file.path.open("a") as opened:
        opened.write(json.dumps({"kind": "run"}) + "\n")
    with pytest.raises(ResultError, match="line 2"):
        file.lines()


def test_committed_experiments_are_complete_and_of_their_plan() -> None:
    paths = sorted((RESULTS / "experiments").glob("*.jsonl"))
    assert {path.stem for path in paths} <= set(EXPERIMENTS) and paths
    for path in paths:
        planned = {(seed, arm, str(its.as_json())) for part in EXPERIMENTS[path.stem].parts for seed, its, arm in part.runs()}
        lines = [line for line in runs.Runs(path).lines() if line["kind"] == "run"]
        assert {(its["seed"], its["arm"], str(its["comparison"]["views"])) for its in lines} <= planned
        assert len({runs.Run.of(its).key for its in lines}) == len(lines)


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_which_images_are_right_goes_through_text(right: list[bool]) -> None:
    text = runs.packed(torch.tensor(right))
    assert runs.unpacked(text, len(right)).tolist() == right
    assert "/" not in text  # a result names no paths
