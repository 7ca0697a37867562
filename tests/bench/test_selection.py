"""The whole bench on a few pictures, and its settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.measuring.schema import check_form

pytest.importorskip("psutil", reason="the bench extra is not installed")
import selection  # noqa: E402
from harness.reporting.frontier import SELECTION, report  # noqa: E402
from harness.selection.settings import EXACT, OF_METHOD, settings  # noqa: E402


@pytest.mark.parametrize("method", list(OF_METHOD))
def test_every_setting_can_be_made(method: str, photo_folder: Path, tmp_path: Path) -> None:
    bench = selection.bench_of(["--data", str(photo_folder), "--quick", "--method", method, "--work", str(tmp_path), "--threads", "1"])
    bench.trained()
    fine, not_run = selection.usable(bench)
    assert not_run == {} and list(fine) == list(settings(method))


@pytest.mark.slow
def test_a_quick_run_writes_a_valid_result(photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for position, path in enumerate([*photo_folder.glob("*.jpg")] * 10):  # an epoch is longer than a round
        (folder / f"{position}.jpg").write_bytes(path.read_bytes())
    arguments = ["--data", str(folder), "--quick", "--no-check", "--threads", "1", "--settings", "every 2", "8 views"]
    assert selection.main([*arguments, "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]) == 0
    (path,) = tmp_path.glob("out/*/selection_simsiam.json")
    result = json.loads(path.read_text())
    check_form(result, SELECTION)
    its = {setting["name"]: setting for setting in result["settings"]}
    assert list(its) == ["vanilla", EXACT, "every 2", "8 views"]
    # the same choice, valued by the same losses; sums may be taken in another order
    assert its[EXACT]["captured"] == pytest.approx(1, abs=1e-4) == its["8 views"]["captured"]
    assert its["8 views"]["of_four"] > 1.1 and -0.5 < its["every 2"]["captured"] < 1
    assert its["vanilla"]["cost"]["repeats"] == [1.0, 1.0] and its["vanilla"]["seconds"]["select"] == 0 < its[EXACT]["seconds"]["select"]
    assert its["vanilla"]["peak_of_vanilla"] == 1 and its[EXACT]["peak_mib"] > 0 and its["8 views"]["peak_mib"] is None
    assert any(setting["on_frontier"] for setting in result["settings"])
    printed = capsys.readouterr().out
    assert printed.startswith("QUICK RUN") and "target: 1.10 x" in printed
    assert report(result) in printed
