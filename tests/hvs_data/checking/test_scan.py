"""What is found of images, against what they were made to be."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import hvs_data as hvs
from hvs_data.checking.looks import STRIDE
from hvs_data.checking.page import page
from hvs_data.checking.scan import Findings, scan, write_quarantine
from hvs_data.checking.words import facts
from hvs_data.sources.base import Source


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def noise(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def turned(pixels: np.ndarray, format: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[274] = 6
    return encoded(pixels, format, exif=exif)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes: sound ones, twins in two formats, odd ones, and three that cannot be used."""
    files = {
        "a/sound.png": encoded(noise(0, 40, 60)),
        "a/twin.png": encoded(noise(1, 50, 50)),
        "a/broken.jpg": encoded(noise(2, 40, 40), "JPEG")[:300],
        "a/deep.png": encoded(np.full((40, 40), 4095, np.uint16)),
        "b/empty.png": b"",
        "b/flat.png": encoded(np.full((40, 40, 3), 7, np.uint8)),
        "b/long.png": encoded(noise(3, 40, 200)),
        "b/small.png": encoded(noise(4, 5, 9)),
        "b/turned.jpg": turned(noise(5, 64, 48)),
        "b/twin.bmp": encoded(noise(1, 50, 50), "BMP"),
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.fixture
def found(folder: Path) -> tuple[Source, Findings]:
    source = hvs.open_source(folder)
    return source, scan(source, 2)


def test_sound_ones_and_others_are_told_apart(found: tuple[Source, Findings]) -> None:
    source, findings = found
    assert findings.images == len(source) == 10
    assert [source.name_of(look.index) for look in findings.bad] == ["a/broken.jpg", "a/deep.png", "b/empty.png"]
    assert "of 8 bits a channel" in findings.bad[1].problem
    assert findings.labels() == {0: 2, 1: 5}
    assert dict(findings.kinds()) == {"PNG RGB": 5, "JPEG RGB": 1, "PNG I;16": 1, "BMP RGB": 1, "unknown": 2}


def test_twins_are_equal_pixel_by_pixel_whatever_the_format(found: tuple[Source, Findings]) -> None:
    source, findings = found
    assert [[source.name_of(index) for index in group] for group in findings.twins] == [["a/twin.png", "b/twin.bmp"]]


def test_pictures_of_the_same_bytes_and_another_shape_are_no_twins() -> None:
    pixels = noise(0, 8, 12)
    assert scan(hvs.open_source([(pixels, 0), (pixels.reshape(12, 8, 3), 0)]), 1).twins == []


def test_odd_ones_are_named(found: tuple[Source, Findings]) -> None:
    source, findings = found
    odd = {name.split(" (")[0]: [source.name_of(look.index) for look in looks] for name, looks in findings.odd().items()}
    assert odd == {
        "with a shorter side below 32 pixels": ["b/small.png"],
        "more than 3 times as long as wide": ["b/long.png"],
        "of one colour": ["b/flat.png"],
        "to be turned by their metadata": ["b/turned.jpg"],
    }


def test_a_tiff_file_comes_upright_whatever_is_asked(tmp_path: Path) -> None:
    (tmp_path / "turned.tiff").write_bytes(turned(noise(0, 64, 48), "TIFF"))
    source = hvs.open_source(tmp_path)
    assert hvs.decode([source.read(0).data])[0].shape == hvs.decode([source.read(0).data], exif_orientation=True)[0].shape == (48, 64, 3)
    assert not any(name.startswith("to be turned") for name in scan(source, 1).odd())


def test_mean_and_deviation_count_every_image_alike() -> None:
    images = [noise(seed, 16 + 4 * seed, 24) for seed in range(5)]
    images[2] = images[2] // 3
    mean, std = scan(hvs.open_source([(pixels, 0) for pixels in images]), 2).mean_and_std()
    some = [pixels[::STRIDE, ::STRIDE].reshape(-1, 3).astype(np.float64) / 255 for pixels in images]
    expected = np.mean([its.mean(0) for its in some], axis=0)
    square = np.mean([(its**2).mean(0) for its in some], axis=0)
    # values and their squares are rounded to float32, at most 2**-24 each, of numbers up to 1
    np.testing.assert_allclose(mean, expected, rtol=0, atol=2**-23)
    np.testing.assert_allclose(np.square(std), square - expected**2, rtol=0, atol=2**-21)


def test_the_list_is_one_that_a_loader_writes(found: tuple[Source, Findings], folder: Path, tmp_path: Path) -> None:
    source, findings = found
    write_quarantine(tmp_path / "checked.jsonl", source, findings.bad)
    recipe = hvs.recipes.simsiam(2, 8)
    list(hvs.ViewLoader(source, recipe, 4, num_threads=1, max_bad_share=0.5, quarantine=tmp_path / "met.jsonl"))
    checked, met = ([json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()] for name in ("checked", "met"))
    assert sorted(checked, key=lambda line: line["index"]) == sorted(met, key=lambda line: line["index"])


def test_the_page_shows_what_was_found(found: tuple[Source, Findings]) -> None:
    source, findings = found
    html = page(source, "<photos>", findings, 2.0, 2)
    assert "<h1>&lt;photos&gt;</h1>" in html and "Cannot be used: 3" in html and "more than once: 1 group<" in html
    assert html.count("<img") == 4 + 2  # an odd one each, and the twins
    assert "<td>a/deep.png</td>" in html


def test_facts_of_a_source_without_a_sound_image() -> None:
    source = hvs.open_source([(b"no image", 0)])
    told = dict(facts(source, scan(source, 1), 1.0, 1))
    assert told["sound"] == "0; 1 cannot be used" and "mean" not in told
    assert "Cannot be used: 1" in page(source, "x", scan(source, 1), 0.0, 1)


def test_an_interrupt_leaves_what_has_not_begun() -> None:
    read: list[int] = []

    class Many(Source):
        fingerprint = "many"

        def __len__(self) -> int:
            return 10_000

        def read(self, index: int) -> hvs.Sample:
            read.append(index)
            return hvs.Sample(np.zeros((4, 4, 3), np.uint8))

    def stop(images: int) -> None:
        if images == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(Many(), 2, stop)
    assert len(read) < 100
