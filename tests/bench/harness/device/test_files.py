"""Whole loaders, tried on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.device import files
from harness.device.bench import OURS
from harness.measuring.staged import MissingHereError


def test_ways_of_our_own_loader(photo_folder: Path) -> None:
    found = list(files.own_loader(str(photo_folder), "cpu", quick=True))
    speeds = [its for its in found if its["what"] == "measurement"]
    assert [its["name"] for its in speeds] == [OURS, files.HARD, files.RENDERED_ON_CPU]
    assert all(its["median"] > 0 and its["unit"] == "images/s" for its in speeds)


def test_where_files_are_decoded(photo_folder: Path) -> None:
    found = {its["name"]: its for its in files.decoding(str(photo_folder), "cpu", quick=True)}
    assert found[OURS]["what"] == "measurement"
    assert found[files.DEVICE_DECODED]["what"] == "not run" and "device" in found[files.DEVICE_DECODED]["reason"]


def test_beside_dali(photo_folder: Path) -> None:
    found = files.beside_dali(str(photo_folder), "cpu", quick=True)
    try:
        import nvidia.dali  # noqa: F401
    except ImportError:
        with pytest.raises(MissingHereError, match="DALI is not installed"):
            next(found)
    else:
        groups = {its["group"] for its in found if its["what"] == "ratio" and its["name"] == f"{OURS} / DALI"}
        assert groups == {files.group_of(candidates) for candidates in (2, 4, 8)}
