"""``hvs-data pack`` as it is called."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hvs_data as hvs
from hvs_data.commands.main import main
from hvs_data.commands.pack import size


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number in range(6):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40, 50, 3), 30 * number, np.uint8)).save(folder / f"{number}.jpg")
    return tmp_path / "photos"


def test_a_folder_becomes_shards_and_is_told_of(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", "photos", "out", "--as", "raw", "--max-side", "25", "--threads", "1", "--no-speed"]) == 0
    told = capsys.readouterr().out
    assert "6 packed" in told and "6 were made smaller" in told and "1 shard" in told and "open_source('out')" in told
    assert sorted(path.name for path in Path("out").iterdir()) == ["pack.json", "shard-000000.tar", "shard-000000.tar.index"]
    source = hvs.open_source("out")
    assert source.classes == ("a", "b") and [source.read(n).label for n in range(6)] == [0, 0, 0, 1, 1, 1]
    assert main(["check", "out"]) == 0 and "20 x 25 all of them" in capsys.readouterr().out


def test_the_speed_before_and_after_is_told(photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from hvs_data.commands import pack

    monkeypatch.setattr(pack, "SECONDS", 0.01)
    assert main(["pack", "photos", "out"]) == 0
    assert "images/s before" in capsys.readouterr().out


def test_a_broken_file_gives_a_list_and_status_1(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "a" / "2.jpg").write_bytes(b"broken")
    assert main(["pack", "photos", "out", "--no-speed"]) == 1
    (line,) = Path("out/bad.jsonl").read_text().splitlines()
    assert json.loads(line)["path"] == "a/2.jpg" and json.loads(line)["index"] == 1
    told = capsys.readouterr().out
    assert "5 packed, 1 cannot be used" in told and "5 kept their bytes" in told and "written: out/bad.jsonl" in told


def test_arrays_are_packed_raw_alone(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("deep").mkdir()
    for number in range(3):
        np.save(f"deep/{number}.npy", np.full((20, 30, 4), 1000 * number, np.uint16))
    assert main(["pack", "deep", "out", "--image", "npy"]) == 2
    assert "pass --as raw" in capsys.readouterr().err
    assert main(["pack", "deep", "out", "--image", "npy", "--as", "raw"]) == 0
    assert [hvs.open_source("out").name_of(n) for n in range(3)] == [f"shard-000000.tar/{n}.npy" for n in range(3)]


def test_what_cannot_be_opened_gives_status_2(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", "nothing-here", "out"]) == 2
    assert "hvs-data: error:" in capsys.readouterr().err and not Path("out").exists()


@pytest.mark.parametrize(("text", "expected"), [("1GB", 10**9), ("500 mb", 5 * 10**8), ("2GiB", 2**31), ("1.5K", 1500), ("12", 12)])
def test_sizes_are_read(text: str, expected: int) -> None:
    assert size(text) == expected


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "1 XB", "nan"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a size"):
        size(text)
