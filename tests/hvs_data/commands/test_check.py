"""``hvs-data check`` as it is called."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hvs_data.commands.main import main


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.full((40, 50, 3), 90 * number, np.uint8)).save(folder / f"{number}.png")
    return folder


def test_sound_files_give_a_page_and_status_0(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "photos", "--threads", "1"]) == 0
    told = capsys.readouterr().out
    assert "3; all can be used" in told and "40 x 50 all of them" in told and "written: check-report.html" in told
    assert sorted(path.name for path in photos.parent.iterdir()) == ["check-report.html", "photos"]


def test_a_broken_file_gives_a_list_and_status_1(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "1.png").write_bytes(b"broken")
    assert main(["check", "photos", "--report", "page.html", "--quarantine", "bad.jsonl"]) == 1
    (line,) = Path("bad.jsonl").read_text().splitlines()
    assert json.loads(line)["path"] == "1.png" and json.loads(line)["index"] == 1
    assert "1 cannot be used" in capsys.readouterr().out and "1.png" in Path("page.html").read_text()


def test_what_cannot_be_opened_gives_status_2(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "nothing-here"]) == 2
    assert "hvs-data: error:" in capsys.readouterr().err
    assert not Path("check-report.html").exists()
