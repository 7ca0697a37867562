"""Wheels that travel: unpacked together into one folder, without an index."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from harness.device.wheels import install


def wheel(folder: Path, name: str, requires: str = "") -> None:
    """A wheel of one module in the folder that both share, as NVIDIA's packages share one."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(f"shared_by_both/{name}.py", f"name = {name!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requires}")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


def test_packages_that_share_a_folder_are_both_there(tmp_path: Path) -> None:
    target = tmp_path / "target"
    wheel(tmp_path, "first")
    wheel(tmp_path, "second", "Requires-Dist: a-package-that-nobody-has\n")
    (found,) = install(None, "cpu", False, str(tmp_path), str(target))
    assert found["names"] == ["first-1.0-py3-none-any.whl", "second-1.0-py3-none-any.whl"]
    code = "from shared_by_both import first, second; print(first.name, second.name)"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(target)}, capture_output=True, text=True)
    assert done.stdout.split() == ["first", "second"], done.stderr


def test_no_wheels_and_wheels_of_another_machine_are_errors(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="expected wheels in the folder"):
        next(install(None, "cpu", False, str(tmp_path), str(tmp_path / "target")))
    (tmp_path / "other-1.0-cp27-cp27m-win32.whl").write_bytes(b"")
    with pytest.raises(SystemExit, match="expected pip to take all wheels"):
        next(install(None, "cpu", False, str(tmp_path), str(tmp_path / "target")))
