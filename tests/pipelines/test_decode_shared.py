"""Pillow images that several threads decode at once: the same one, those of one file, those of one archive."""

from __future__ import annotations

import io
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

import hvs_data as hvs
from hvs_data.pipelines.decode import decode_image

# Several attempts: whether two threads meet in the same image is the machine's affair.
ATTEMPTS = 4
SIDES = (200, 300)


@pytest.fixture(autouse=True)
def threads_change_often() -> Any:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def picture(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (*SIDES, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def rgb(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


def assert_all(images: list[Image.Image], expected: list[np.ndarray]) -> None:
    for found, right in zip(hvs.decode(images, num_threads=8), expected, strict=True):
        np.testing.assert_array_equal(found.numpy(), right)


ONE_IMAGE: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: encoded(picture(0), "PNG"),
    "JPEG": lambda: encoded(picture(0), "JPEG"),
    "palette": lambda: encoded(picture(0).quantize(64), "PNG", transparency=3),
    "GIF": lambda: encoded(picture(0), "GIF"),
    "TIFF": lambda: encoded(picture(0), "TIFF", compression="tiff_deflate"),
    "BMP": lambda: encoded(picture(0), "BMP"),
    "WebP": lambda: encoded(picture(0), "WEBP", lossless=True),
}


@pytest.mark.parametrize("kind", ONE_IMAGE)
@pytest.mark.parametrize("from_path", [False, True])
def test_one_lazily_opened_image_many_times(kind: str, from_path: bool, tmp_path: Path) -> None:
    """Guards: one thread at a time in the reading of a Pillow image."""
    data = ONE_IMAGE[kind]()
    path = tmp_path / "image"
    path.write_bytes(data)
    expected = [rgb(Image.open(io.BytesIO(data)))] * 8
    for _ in range(ATTEMPTS):
        assert_all([Image.open(path if from_path else io.BytesIO(data))] * 8, expected)


def test_a_draft_is_decoded_as_it_was_asked_for() -> None:
    data = encoded(picture(0), "JPEG")

    def drafted() -> Image.Image:
        image = Image.open(io.BytesIO(data))
        image.draft("L", (SIDES[1] // 2, SIDES[0] // 2))
        return image

    expected = rgb(drafted())
    assert expected.shape == (SIDES[0] // 2, SIDES[1] // 2, 3)
    for _ in range(ATTEMPTS):
        assert_all([drafted()] * 8, [expected] * 8)


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PNG"])
def test_images_that_share_a_file_of_several_frames(kind: str, tmp_path: Path) -> None:
    """Guards: one thread at a time in a file that several images read from."""
    path = tmp_path / "frames"
    path.write_bytes(encoded(picture(0), kind, save_all=True, append_images=[picture(seed) for seed in range(1, 4)]))

    def frames(file: Any) -> list[Image.Image]:
        images = [Image.open(file) for _ in range(4)]
        for number, image in enumerate(images):
            image.seek(number)
        return images

    with open(path, "rb") as file:
        expected = []
        for number in range(4):
            with Image.open(path) as alone:
                alone.seek(number)
                expected.append(rgb(alone))
        for _ in range(ATTEMPTS):
            assert_all(frames(file) * 2, expected * 2)


class Slow(io.FileIO):
    """A file whose reads leave time for another thread to move its position."""

    def readinto(self, buffer: Any) -> int | None:
        time.sleep(0.001)
        return super().readinto(buffer)

    def read(self, size: int | None = -1) -> bytes | None:  # type: ignore[override]
        time.sleep(0.001)
        return super().read(-1 if size is None else size)


def test_members_of_one_archive(tmp_path: Path) -> None:
    """Guards: one thread at a time in the file that lies behind the files of several images."""
    data = [encoded(picture(seed), "PNG") for seed in range(6)]
    with tarfile.open(tmp_path / "images.tar", "w") as archive, zipfile.ZipFile(tmp_path / "images.zip", "w") as zipped:
        for number, content in enumerate(data):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
            zipped.writestr(f"{number}.png", content)
    expected = [rgb(Image.open(io.BytesIO(content))) for content in data]
    tar, zipped_file = Slow(tmp_path / "images.tar"), Slow(tmp_path / "images.zip")
    with tar, zipped_file, tarfile.open(fileobj=tar) as archive, zipfile.ZipFile(zipped_file) as zipped:
        for _ in range(ATTEMPTS):
            assert_all([Image.open(archive.extractfile(name)) for name in archive.getnames()], expected)  # type: ignore[arg-type]
            assert_all([Image.open(zipped.open(name)) for name in zipped.namelist()], expected)


def test_two_loaders_over_one_list_of_images() -> None:
    recipe = hvs.recipes.simsiam(candidates=2, size=16)
    data = [encoded(picture(seed), "PNG") for seed in range(2)]

    def views(images: list[Any]) -> list[Any]:
        return [view for batch in hvs.ViewLoader(images, recipe, batch_size=8, num_threads=4, engine="reference") for view in batch.views]

    expected = views([data[number % 2] for number in range(8)])
    for _ in range(2):
        images = [Image.open(io.BytesIO(content)) for content in data] * 4
        with ThreadPoolExecutor(2) as pool:
            for found in pool.map(views, [images, images]):
                assert all(view.equal(right) for view, right in zip(found, expected, strict=True))


class Meeting(ImageFile.ImageFile):
    """An image that is read as soon as another one is being read at the same time."""

    def __init__(self, together: threading.Barrier):
        Image.Image.__init__(self)
        self._mode, self._size, self.info = "RGB", (2, 2), {}
        self.tile, self.fp, self.together, self.read = [], None, together, False

    def _open(self) -> None: ...

    def load(self) -> Any:
        if not self.read:
            self.together.wait(20)
            self.im, self.read = Image.core.new("RGB", (2, 2)), True
        return Image.Image.load(self)


def test_different_images_are_decoded_at_the_same_time() -> None:
    together = threading.Barrier(4)
    assert len(hvs.decode([Meeting(together) for _ in range(4)], num_threads=4)) == 4


def test_an_image_whose_file_was_closed_is_named(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "image.png")
    with Image.open(tmp_path / "image.png") as left:
        pass
    file = open(tmp_path / "image.png", "rb")  # noqa: SIM115 - closed in a moment
    other = Image.open(file)
    file.close()
    for image in (left, other):
        with pytest.raises(hvs.DecodeError, match=r"read from a closed file; call image.load\(\) before"):
            decode_image(image)
    with Image.open(tmp_path / "image.png") as loaded:
        loaded.load()
    np.testing.assert_array_equal(decode_image(loaded), rgb(picture(0)))
