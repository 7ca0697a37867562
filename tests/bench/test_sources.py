"""The whole bench on a few simulated samples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.loaders.many_samples import CASES
from harness.measuring.schema import check_result

pytest.importorskip("psutil", reason="the bench extra is not installed")
import sources  # noqa: E402


@pytest.mark.slow
def test_a_quick_run_writes_a_valid_result(photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in photo_folder.glob("*.jpg"):
        (folder / path.name).write_bytes(path.read_bytes())
    arguments = ["--quick", "--no-check", "--repeats", "1", "--data", str(folder), "--out", str(tmp_path / "out")]
    assert sources.main(arguments) == 0
    (path,) = tmp_path.glob("out/*/sources.json")
    result = json.loads(path.read_text())
    check_result(result)
    assert {entry["group"] for entry in result["measurements"]} == {*CASES, "tar shards, walked for the first time"}
    assert [footprint["name"] for footprint in result["footprints"]] == list(CASES[:2])
    assert all(footprint["peak_mib"] >= footprint["batch_mib"] for footprint in result["footprints"])
    assert result["targets"][0]["reached"] is None  # of fewer samples than the target is about
    assert "tar shards, indices kept: open" in capsys.readouterr().out
