"""Kernels are compiled here: by Triton, not in its interpreter, and nothing of it is kept."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest


def _compiles() -> bool:
    if importlib.util.find_spec("triton") is None or os.environ.get("TRITON_INTERPRET") == "1":
        return False
    import triton

    # 3.2 tells in another way what it compiles
    return not triton.__version__.startswith("3.2.")


if not _compiles():
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
