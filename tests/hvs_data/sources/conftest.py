"""What tests of shards share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where indices of shards are kept."""
    monkeypatch.setenv("HVS_DATA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "shards"
