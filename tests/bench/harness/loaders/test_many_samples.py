"""The simulated samples are what they claim to be: as many as asked for, each one a photograph that can be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.data import photos
from harness.loaders import many_samples

SAMPLES, SHARDS = 50, 3


@pytest.mark.parametrize("case", many_samples.CASES)
def test_every_sample_can_be_read(case: str, photo_folder: Path, tmp_path: Path) -> None:
    paths = [path for path in photos.photo_paths(photo_folder) if path.endswith(".jpg")]
    many_samples.prepare(tmp_path, paths, SAMPLES, SHARDS)
    opened = many_samples.opener(case, {"paths": paths, "samples": SAMPLES, "folder": str(tmp_path)})()
    assert len(opened) == SAMPLES
    if case == "list of (path, label)":
        contents = [Path(path).read_bytes() for path, _ in opened]
        labels = [label for _, label in opened]
    else:
        contents = [opened.read(index).data for index in range(SAMPLES)]
        labels = opened.labels.tolist()
        assert all(len(os.path.basename(opened.name_of(index))) > 3 for index in range(SAMPLES))
    assert set(contents) == {Path(path).read_bytes() for path in paths}
    assert sorted(labels) == list(range(SAMPLES))


def test_a_name_is_as_long_as_imagenets() -> None:
    assert [len(many_samples.long_name(name)) for name in ("a.jpg", "ab.jpg", "n" * 40)] == [29, 30, 40]
    assert os.path.normpath(many_samples.long_name("a.jpg")) == "a.jpg"


def test_walked_shards_have_labels_and_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_samples, "WALKED", 2)
    assert many_samples.walk_rate(tmp_path, 20) > 0
    written = [path.stat() for path in tmp_path.iterdir()]
    assert all(status.st_size > 20 * many_samples.IMAGE_BYTES > 512 * status.st_blocks for status in written)
