"""The same images in every format: the same samples, from however many threads, and a fingerprint that knows them again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import hvs_data as hvs
from hvs_data.sources.base import Source
from source_contract import (
    CLASSES,
    COPIES,
    FORMATS,
    Format,
    changes,
    check_after_fork,
    check_copy,
    check_indices,
    check_nothing_is_unpickled,
    check_samples,
    check_threads,
    photos,
)

PHOTOS = photos()


@pytest.fixture(params=FORMATS)
def format(request: pytest.FixtureRequest) -> Format:
    return FORMATS[request.param]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVS_DATA_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def source(format: Format, tmp_path: Path) -> Source:
    return format.open(tmp_path / "data", PHOTOS)


def test_samples_and_their_order(source: Source, format: Format) -> None:
    check_samples(source, PHOTOS, format.labels)
    assert source.classes == (CLASSES if format.classes else ())
    if hasattr(source, "labels"):
        assert source.labels.tolist() == [photo.label if format.labels else -1 for photo in PHOTOS]


def test_indices(source: Source) -> None:
    check_indices(source)


def test_many_threads_read_at_once(source: Source) -> None:
    check_threads(source, PHOTOS)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_reads_too(source: Source) -> None:
    check_after_fork(source, PHOTOS)


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_opens_its_own_files(how: str, format: Format, tmp_path: Path) -> None:
    """The number of an open file was copied: a copy read, and closed, whatever had that number later."""
    source = [format.open(tmp_path / "data", PHOTOS)]
    check_copy(source.pop(), PHOTOS, format.labels, how, tmp_path)


def test_no_labels_on_request(format: Format, tmp_path: Path) -> None:
    source = replace(format, options=(*format.options, ("label", None))).open(tmp_path / "data", PHOTOS)
    check_samples(source, PHOTOS, labels=False)
    assert source.classes == () and source.fingerprint
    assert not format.labels or source.fingerprint != format.open(tmp_path / "again", PHOTOS).fingerprint


def test_nothing_is_unpickled(format: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = format.open(tmp_path / "data", PHOTOS)
    again: Callable[[], Source] = lambda: format.open(tmp_path / "again", PHOTOS)  # noqa: E731
    assert source.fingerprint
    check_nothing_is_unpickled(again, monkeypatch)


def test_the_fingerprint_knows_the_data_again(format: Format, tmp_path: Path) -> None:
    mine = format.open(tmp_path / "one" / "data", PHOTOS).fingerprint
    assert format.open(tmp_path / "one" / "data", PHOTOS).fingerprint == mine
    assert not format.movable or format.open(tmp_path / "two" / "data", PHOTOS).fingerprint == mine
    assert len(mine) == 16 and int(mine, 16) >= 0


@pytest.mark.parametrize(
    ("stored", "change"),
    [(name, change) for name, format in FORMATS.items() for change in changes(PHOTOS) if change not in format.unnoticed],
)
def test_the_fingerprint_notices_a_change(stored: str, change: str, tmp_path: Path) -> None:
    format = FORMATS[stored]
    mine = format.open(tmp_path / "one" / "data", PHOTOS).fingerprint
    assert format.open(tmp_path / "two" / "data", changes(PHOTOS)[change]).fingerprint != mine


def test_a_loader_reads_it(source: Source, format: Format) -> None:
    loader = hvs.ViewLoader(source, hvs.recipes.simsiam(size=16), batch_size=6, num_threads=2, engine="reference")
    index, labels = zip(*((batch.index, batch.labels) for batch in loader), strict=True)
    found = {int(i): int(label) for part in zip(index, labels, strict=True) for i, label in zip(*part, strict=True)}
    assert found == {number: photo.label if format.labels else -1 for number, photo in enumerate(PHOTOS)}
    assert not len(loader.quarantine)
