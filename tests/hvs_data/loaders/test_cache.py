"""Images kept in memory: the same views as without, decoded once, never more bytes than allowed."""

# Axes: B image, V view, C channel, H W pixels.

from __future__ import annotations

import io
import logging
import shutil
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

import hvs_data as hvs
from hvs_data.errors import HvsError
from hvs_data.loaders.cache import OVERHEAD, ImageCache
from hvs_data.types import Batch

RECIPE = hvs.recipes.simsiam(candidates=2, size=16)
DEEP = hvs.recipes.simsiam(2, size=16).with_channels([0.4] * 13, [0.2] * 13, (0, 4095))
LIMIT = 2**24


def mixed_files(folder: Path, photos: Path) -> Path:
    """JPEG files, one of them to be turned, PNG in colour and in grey."""
    shutil.copytree(photos, folder / "photos")
    draw = np.random.default_rng(0)
    turned = Image.Exif()
    turned[274] = 6
    Image.fromarray(draw.integers(0, 256, (30, 50, 3), dtype=np.uint8)).save(folder / "photos/cat/turned.jpg", exif=turned)
    Image.fromarray(draw.integers(0, 256, (25, 31, 3), dtype=np.uint8)).save(folder / "photos/dog/colour.png")
    Image.fromarray(draw.integers(0, 256, (25, 31), dtype=np.uint8)).save(folder / "photos/dog/grey.png")
    return folder / "photos"


def arrays(dtype: str, channels: int) -> list[tuple[np.ndarray, int]]:
    draw = np.random.default_rng(1)
    return [(draw.integers(0, 255, (20 + number, 31, channels)).astype(dtype), number) for number in range(12)]


def pillow_images() -> list[Image.Image]:
    files = [io.BytesIO() for _ in range(6)]
    for number, file in enumerate(files):
        Image.fromarray(np.full((20, 20 + number, 3), 30 * number, np.uint8)).save(file, "PNG")
    return [Image.open(file) for file in files]


def assert_equal(ours: list[Batch], expected: list[Batch]) -> None:
    assert len(ours) == len(expected) > 0
    for mine, its in zip(ours, expected, strict=True):
        assert torch.equal(mine.index, its.index) and torch.equal(mine.labels, its.labels)
        assert all(torch.equal(a, b) for a, b in zip(mine.views, its.views, strict=True))


def epochs(loader: hvs.ViewLoader, count: int = 3) -> list[Batch]:
    return [batch for _ in range(count) for batch in loader]


SOURCES: dict[str, tuple[Callable[[Path, Path], Any], Any, dict[str, Any]]] = {
    "files": (mixed_files, RECIPE, {}),
    "files, upright": (mixed_files, RECIPE, {"exif_orientation": True}),
    "arrays": (lambda *paths: arrays("uint8", 3), RECIPE, {}),
    "13 channels of 16 bits": (lambda *paths: arrays("uint16", 13), DEEP, {}),
    "Pillow images": (lambda *paths: pillow_images(), RECIPE, {}),
}


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("name", SOURCES)
def test_views_are_those_without_a_cache_and_images_are_decoded_once(name: str, num_threads: int, photos: Path, tmp_path: Path) -> None:
    make, recipe, options = SOURCES[name]
    data = make(tmp_path, photos)
    plain = hvs.ViewLoader(data, recipe, 5, seed=3, num_threads=num_threads, **options)
    kept = hvs.ViewLoader(data, recipe, 5, seed=3, num_threads=num_threads, cache="memory", **options)
    assert_equal(epochs(kept), epochs(plain))
    assert kept.counters["read"] == len(kept.dataset) and plain.counters["read"] == 3 * len(plain.dataset)


def test_what_does_not_fit_is_decoded_as_before_and_told_of_once(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    limit = 40_000  # the photographs have 30 to 51 by 60 to 39 pixels, 5 to 6 KB each
    kept = hvs.ViewLoader(photos, RECIPE, 5, cache="memory", cache_bytes=limit)
    with caplog.at_level(logging.WARNING, "hvs_data"):
        assert_equal(epochs(kept), epochs(hvs.ViewLoader(photos, RECIPE, 5)))
    cache = kept._plan.cache
    assert cache is not None and 0.8 * limit < cache.nbytes <= limit and 0 < len(cache) < len(kept.dataset)
    assert kept.counters["read"] == 3 * len(kept.dataset) - 2 * len(cache)
    (line,) = [record.getMessage() for record in caplog.records if "cache_bytes" in record.getMessage()]
    assert f"cache_bytes={limit}" in line


def test_the_bytes_that_are_counted_are_those_that_are_taken() -> None:
    cache = ImageCache(LIMIT)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        block = np.zeros((100, 8, 8, 3), np.uint8)
        for index in range(3000):
            cache.keep(index, block[index % 100], 0)  # a part of an array that would be kept as a whole
        del block
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(cache) == 3000 and cache.nbytes == 3000 * (8 * 8 * 3 + OVERHEAD)
    assert 3000 * 8 * 8 * 3 < taken <= cache.nbytes


def test_threads_share_it_and_none_goes_past_the_limit() -> None:
    cache = ImageCache(50 * (300 + OVERHEAD))
    image = np.zeros((10, 10, 3), np.uint8)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: cache.keep(number % 70, image, number % 70), range(2000)))
    assert len(cache) == 50 and cache.nbytes == cache.limit
    assert all((kept := cache.get(index)) is None or kept.label == index for index in range(70))


def test_bad_images_are_replaced_and_noted_as_before(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos/cat/01.jpg").write_text("this is not a picture")
    (tmp_path / "photos/dog/12.jpg").write_bytes((photos / "dog/12.jpg").read_bytes()[:200])
    plain, kept = (hvs.ViewLoader(tmp_path / "photos", RECIPE, 5, seed=2, cache=cache) for cache in (None, "memory"))
    assert_equal(epochs(kept), epochs(plain))
    assert kept.quarantine.reasons == plain.quarantine.reasons and len(kept.quarantine) == 2
    assert kept.counters["replaced"] == plain.counters["replaced"] == 6


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_a_resume_is_exact(world_size: int, photos: Path) -> None:
    def loader(rank: int, cache: str | None) -> hvs.ViewLoader:
        return hvs.ViewLoader(photos, RECIPE, 2, seed=5, rank=rank, world_size=world_size, cache=cache)

    for rank in range(world_size):
        whole = epochs(loader(rank, None), 2)
        first = loader(rank, "memory")
        begun = [*first, *islice(first, 2)]
        resumed = loader(rank, "memory")
        resumed.load_state_dict(first.state_dict())
        assert_equal([*begun, *resumed], whole)


class Noisy(Dataset):
    """Draws for every other image, by one of the libraries."""

    def __init__(self, library: str):
        self.library = library

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> np.ndarray:
        import random

        if index % 2:
            return np.full((20, 20, 3), index, np.uint8)
        draws = {
            "torch": lambda: int(torch.randint(256, ())),
            "numpy": lambda: np.random.randint(256),
            "rng": lambda: np.random.default_rng().integers(256),
            "python": lambda: random.randrange(256),
        }
        return np.full((20, 20, 3), draws[self.library](), np.uint8)


@pytest.mark.parametrize("library", ["torch", "numpy", "rng", "python"])
def test_images_that_were_drawn_are_not_kept(library: str) -> None:
    source = hvs.open_source(Noisy(library), parallel=True)
    plain, kept = (hvs.ViewLoader(source, RECIPE, 5, cache=cache) for cache in (None, "memory"))
    assert_equal(epochs(kept), epochs(plain))
    assert kept._plan.cache is not None and len(kept._plan.cache) == 5


def test_chosen_views_are_rendered_again_from_what_is_kept(photos: Path) -> None:
    def pairs(cache: str | None) -> list[Batch]:
        torch.manual_seed(0)
        encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(8))
        encoder(torch.zeros(2, 3, 8, 8))
        objective = hvs.objectives.SimCLR(torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(8), encoder))
        loader = hvs.ViewLoader(photos, hvs.recipes.simsiam(candidates=4, size=16), 11, seed=3, cache=cache)
        return epochs(hvs.HardViewLoader(loader, hvs.HardViewSelector(objective, score_size=8)), 2)

    assert_equal(pairs("memory"), pairs(None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache": "disk"}, 'cache must be "memory"'),
        ({"cache_bytes": 2**20}, 'expected cache="memory" with cache_bytes'),
        ({"cache": "memory", "cache_bytes": 0}, "cache_bytes must be a whole number of at least 1, got 0"),
        ({"cache": "memory", "scaled_decode": True}, "got scaled_decode=True"),
        ({"cache": "memory", "decode_on": "device"}, "decode_on"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str, photos: Path) -> None:
    with pytest.raises(HvsError, match=message):
        hvs.ViewLoader(photos, RECIPE, 5, **options)
