"""Compiled functions on disk: used again by other processes, and never for other sources."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hvs_data.kernels import numba_compile

CALLEE = """
from package.numba_compile import jit

@jit
def number():
    return {number}
"""
CALLER = """
from package.callee import number
from package.numba_compile import jit

@jit
def twice():
    return 2 * number()
"""
RUN = """
import json
from package.caller import twice
print(json.dumps([twice(), sum(twice.stats.cache_hits.values())]))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of two compiled functions in two files, one compiled into the other."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "numba_compile.py").write_text(Path(numba_compile.__file__).read_text())
    (folder / "callee.py").write_text(CALLEE.format(number=1))
    (folder / "caller.py").write_text(CALLER)
    return folder


def run(package: Path, **environment: str) -> tuple[list[int], str]:
    """The result and the number of times that it came from disk; and what was logged."""
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=package.parent, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_a_compiled_function_is_loaded_until_any_source_changes(package: Path) -> None:
    assert run(package)[0] == [2, 0]
    assert run(package)[0] == [2, 1]
    # the caller's own file stays as it is
    (package / "callee.py").write_text(CALLEE.format(number=5))
    assert run(package)[0] == [10, 0]
    assert run(package)[0] == [10, 1]


def test_without_a_folder_to_write_to_every_process_compiles(package: Path) -> None:
    # a file stands where each of the folders would have to be made
    blocked = package.parent / "file"
    blocked.touch()
    (package / "__pycache__").touch()
    nowhere = {name: str(blocked / "folder") for name in ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR")}
    for _ in range(2):
        result, logged = run(package, **nowhere, PYTHONDONTWRITEBYTECODE="1")
        assert result == [2, 0]
        assert logged.count("set NUMBA_CACHE_DIR") == 1
