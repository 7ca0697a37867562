"""Captured hardness without times, on a few pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from harness.measuring.schema import check_form

pytest.importorskip("psutil", reason="the bench extra is not installed")
import hardness  # noqa: E402
import page  # noqa: E402
from harness.reporting.hardness import HARDNESS, report  # noqa: E402
from harness.selection.capture import with_first_locals  # noqa: E402
from harness.selection.settings import EXACT  # noqa: E402
from hvs_data.recipes import dino  # noqa: E402
from hvs_data.rows.layout import layout_of  # noqa: E402


def test_the_first_local_views_in_place_of_others() -> None:
    layout = layout_of(10, dino(candidates=4, local_candidates=6, local_views=2), ordered=False)
    slots = torch.tensor([[0, 3, 7, 9], [1, 2, 4, 5]])
    assert with_first_locals(slots, layout).tolist() == [[0, 3, 4, 5], [1, 2, 4, 5]]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dino", "dinov2"])
def test_a_quick_run_writes_a_valid_result(method: str, photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for position, path in enumerate([*photo_folder.glob("*.jpg")] * 10):
        (folder / f"{position}.jpg").write_bytes(path.read_bytes())
    arguments = ["--data", str(folder), "--quick", "--no-check", "--threads", "1", "--method", method, "--settings", "cheap, 8 views"]
    assert hardness.main([*arguments, "--batches", "8", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]) == 0
    (path,) = tmp_path.glob(f"out/*/hardness_{method}.json")
    result = json.loads(path.read_text())
    check_form(result, HARDNESS)
    exact, cheap = result["settings"]
    assert (exact["name"], cheap["name"]) == (EXACT, "cheap, 8 views")
    assert exact["captured"] == pytest.approx(1, abs=1e-4) == exact["of_four"] and exact["of_four_first_locals"] is None
    assert cheap["of_four_first_locals"] is not None and cheap["captured"] < 1
    printed = capsys.readouterr().out
    assert printed.startswith("QUICK RUN") and report(result) in printed
    shown = page.hardness_section(result)
    assert f"{cheap['of_four']:.2f}" in shown and f"--method {method}" in shown
