"""Sources in processes that are started anew: what stands in them travels, open files and locks do not."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from source_contract import FORMATS, photos, read_all

PHOTOS = photos(7)
# what lives in this process's memory is elsewhere not found
TRAVELLING = [name for name in FORMATS if "memory://" not in name]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_sources_travel_to_other_processes(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source with a lock or an open file could not be pickled, or read what had the file's number there."""
    monkeypatch.setenv("HVS_DATA_CACHE", str(tmp_path / "cache"))
    sources = {name: FORMATS[name].open(tmp_path / str(number), PHOTOS) for number, name in enumerate(TRAVELLING)}
    expected = read_all(sources)
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
        assert pool.submit(read_all, sources).result(120) == expected
    assert read_all(sources) == expected
