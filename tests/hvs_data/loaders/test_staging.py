"""Images side by side in few pieces of memory, put there by many threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from hvs_data.loaders import staging
from hvs_data.loaders.staging import ALIGNMENT, Staging


def take(size: int) -> torch.Tensor:
    return torch.full((size,), 255, dtype=torch.uint8)


def images(count: int) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (*draw.integers(1, 60, 2), 3)).astype(np.uint8) for _ in range(count)]


def test_every_image_is_found_again_whoever_put_it_there() -> None:
    arrays = images(200)
    for limit in (1, 3000, 2**20):
        memory = Staging(take, expected=limit)
        with ThreadPoolExecutor(8) as pool:
            places = list(pool.map(memory.add, arrays))
        copies = [block.clone() for block in memory.blocks()]
        for place, array in zip(places, arrays, strict=True):
            assert torch.equal(place.within(copies), torch.from_numpy(array)) and place.start % ALIGNMENT == 0
        assert memory.size == sum(map(len, copies)) == sum(-(-array.nbytes // ALIGNMENT) * ALIGNMENT for array in arrays)


def test_images_of_a_known_size_lie_in_one_piece(monkeypatch) -> None:
    monkeypatch.setattr(staging, "BLOCK_BYTES", 4000)
    arrays = images(50)
    first = Staging(take)
    for array in arrays:
        first.add(array)
    assert len(first.blocks()) > 1
    second = Staging(take, expected=first.size)
    for array in arrays:
        second.add(array)
    assert len(second.blocks()) == 1


def test_an_image_larger_than_a_piece_gets_one_of_its_own(monkeypatch) -> None:
    monkeypatch.setattr(staging, "BLOCK_BYTES", 100)
    memory = Staging(take)
    small, large = np.zeros((2, 3, 3), np.uint8), np.full((50, 40, 3), 7, np.uint8)
    places = [memory.add(array) for array in (small, large, small)]
    assert [place.block for place in places] == [0, 1, 2]
    assert torch.equal(places[1].within(memory.blocks()), torch.from_numpy(large))


def test_images_that_are_turned_or_read_only_are_copied_as_they_look() -> None:
    array = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    array.flags.writeable = False
    memory = Staging(take)
    for view in (array, array[::-1], array[:, ::2]):
        assert torch.equal(memory.add(view).within(memory.blocks()), torch.from_numpy(view.copy()))
    assert Staging(take).blocks() == []
