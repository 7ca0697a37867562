"""Images of any sizes as a sequence."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from hvs_data.errors import HvsError
from hvs_data.types import ImageBatch


def image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_an_image_batch_is_a_sequence_of_ragged_images() -> None:
    arrays = [image(4, 5), image(1, 1), image(1, 900)]
    batch = ImageBatch([arrays[0], torch.from_numpy(arrays[1]), arrays[2]])
    assert len(batch) == 3 and batch.device == torch.device("cpu")
    assert batch.height.tolist() == [4, 1, 1] and batch.width.tolist() == [5, 1, 900]
    assert batch.height.dtype == batch.width.dtype == torch.int64
    for kept, array in zip(batch, arrays, strict=True):
        assert kept.dtype == torch.uint8 and np.array_equal(kept.numpy(), array)
    assert torch.equal(batch[-1], batch[2])
    with pytest.raises(IndexError):
        batch[3]
    part = batch[1:]
    assert isinstance(part, ImageBatch) and part.width.tolist() == [1, 900]
    assert "3 images" in repr(batch)


def test_an_empty_image_batch() -> None:
    batch = ImageBatch([])
    assert len(batch) == 0 and batch.height.shape == batch.width.shape == (0,) and batch.device == torch.device("cpu")


def test_contiguous_images_are_kept_and_others_copied() -> None:
    whole = image(6, 8)
    frozen = image(3, 3)
    frozen.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch = ImageBatch([whole, whole[::-1], whole[:, ::2], torch.from_numpy(whole).flip(0), torch.from_numpy(whole)[::2], frozen])
    assert batch[0].data_ptr() == whole.ctypes.data
    assert all(kept.is_contiguous() for kept in batch)
    for kept, expected in zip(batch, [whole, whole[::-1], whole[:, ::2], whole[::-1], whole[::2], frozen], strict=True):
        assert np.array_equal(kept.numpy(), expected)


@pytest.mark.parametrize(
    ("wrong", "arrived"),
    [
        (np.zeros((4, 5), dtype=np.uint8), r"uint8 \(4, 5\)"),
        (np.zeros((0, 5, 3), dtype=np.uint8), r"uint8 \(0, 5, 3\)"),
        (np.zeros((4, 5, 3)), r"float64 \(4, 5, 3\)"),
        (np.zeros((4, 5, 3), dtype=">u2"), r">u2 \(4, 5, 3\)"),
        (torch.zeros(4, 5, 3, dtype=torch.int8), r"torch.int8 \(4, 5, 3\)"),
        ([[[0, 0, 0]]], "list"),
        (None, "NoneType"),
        (b"\xff\xd8", "bytes"),
    ],
)
def test_an_image_batch_refuses_other_things(wrong: Any, arrived: str) -> None:
    with pytest.raises(HvsError, match=rf"image 1: expected uint8, uint16 or float32 of shape \[H, W, C\].*got {arrived}; convert"):
        ImageBatch([image(2, 2), wrong])


def test_an_image_batch_lies_on_one_device() -> None:
    with pytest.raises(HvsError, match=r"one device, got \['cpu', 'meta'\]; move"):
        ImageBatch([image(2, 2), torch.zeros(2, 2, 3, dtype=torch.uint8, device="meta")])
