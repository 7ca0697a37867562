"""What decoding may be given: bytes, arrays and images, alone and in lists."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hvs_data as hvs

# Axes: H W pixels, C channel.
from encoded_files import assert_image, by_pillow, encoded, photo
from hvs_data.errors import DecodeError, HvsError
from hvs_data.pipelines import decode as module
from hvs_data.pipelines.decode import decode_image

# --- what may be given -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_bytes_may_come_in_any_container(kind: str) -> None:
    data = encoded(photo(), kind)
    expected = by_pillow(data)
    array = np.frombuffer(data, dtype=np.uint8)
    spread = np.zeros(2 * len(data), dtype=np.uint8)
    spread[::2] = array
    for container in (
        bytearray(data),
        memoryview(data),
        memoryview(spread)[::2],
        memoryview(bytearray(data)).cast("B", (1, len(data))),
        array,
        spread[::2],
        torch.from_numpy(array.copy()),
        torch.from_numpy(spread)[::2],
    ):
        assert_image(decode_image(container), expected)


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_pixels_may_be_given_as_arrays_and_tensors(channels: int | None) -> None:
    shape = (5, 7) if channels is None else (5, 7, channels)
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    if channels == 4:
        pixels[:, :, 3] = 255  # an alpha that says nothing
    gray = channels in (None, 1)
    expected = np.stack([pixels.reshape(5, 7)] * 3, axis=-1) if gray else pixels[:, :, :3]
    assert_image(decode_image(pixels), expected)
    assert_image(decode_image(pixels[::-1]), expected[::-1])
    tensor = torch.from_numpy(pixels if channels is None else pixels.transpose(2, 0, 1).copy())
    assert_image(decode_image(tensor), expected)
    assert_image(decode_image(tensor.flip(-1)), expected[:, ::-1])


def test_rgb_pixels_are_not_copied() -> None:
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    assert np.shares_memory(decode_image(pixels), pixels)


@pytest.mark.parametrize(
    ("data", "expected", "arrived"),
    [
        ("photo.jpg", "encoded bytes", "a str; read the file first"),
        (Path("photo.jpg"), "encoded bytes", "Path; read the file first"),
        (None, "encoded bytes", "NoneType"),
        (7, "encoded bytes", "int"),
        ([1, 2], "encoded bytes", "list"),
        (np.zeros((4, 4, 3), dtype=np.float32), "uint8", r"float32 of shape \(4, 4, 3\).*without ToTensor"),
        (torch.zeros(3, 4, 4), "uint8", r"torch.float32 of shape \(3, 4, 4\).*without ToTensor"),
        (np.zeros(9, dtype=np.int64), "uint8", r"int64 of shape \(9,\)"),
        (np.zeros((3, 4, 5), dtype=np.uint8), r"\[H, W, C\]", r"\(3, 4, 5\)"),
        (np.zeros((2, 4, 4, 3), dtype=np.uint8), r"\[H, W, C\]", r"\(2, 4, 4, 3\)"),
        (np.zeros((), dtype=np.uint8), r"\[H, W, C\]", r"\(\)"),
        (torch.zeros(5, 4, 3, dtype=torch.uint8), r"\[C, H, W\]", r"\(5, 4, 3\)"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "at least one pixel", "0 x 4"),
        (Image.new("RGB", (0, 5)), "at least one pixel", "5 x 0"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value[:20],
)
def test_what_is_no_image_is_named(data: Any, expected: str, arrived: str) -> None:
    with pytest.raises(DecodeError, match=f"expected.*{expected}.*got.*({arrived})") as caught:
        decode_image(data)
    assert isinstance(caught.value, HvsError) and isinstance(caught.value, ValueError)


# --- lists -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_threads", [None, 1, 2, 50])
def test_a_list_keeps_its_order(num_threads: int | None) -> None:
    kinds = ["JPEG", "PNG", "BMP"]
    items = [encoded(photo(20 + n, 70 - n), kinds[n % 3]) for n in range(30)]
    batch = hvs.decode(items, num_threads=num_threads)
    assert isinstance(batch, hvs.ImageBatch) and len(batch) == 30
    assert batch.height.tolist() == list(range(20, 50)) and batch.width.tolist() == list(range(70, 40, -1))
    for image, data in zip(batch, items, strict=True):
        assert image.device.type == "cpu"
        assert_image(image.numpy(), by_pillow(data))


@pytest.mark.parametrize(("items", "num_threads", "threads"), [(1, 8, 1), (8, 1, 1), (8, 3, 3), (3, 8, 3)])
def test_threads_are_as_many_as_asked_for(items: int, num_threads: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[int] = set()
    # every thread waits for the others, so that none takes the work of another
    together = threading.Barrier(threads)

    def decode_in_step(data: Any, **options: Any) -> np.ndarray:
        if threading.get_ident() not in used:
            used.add(threading.get_ident())
            together.wait(20)
        return np.zeros((1, 1, 3), dtype=np.uint8)

    monkeypatch.setattr(module, "decode_image", decode_in_step)
    hvs.decode([b""] * items, num_threads=num_threads)
    assert len(used) == threads
    assert (threading.get_ident() in used) == (threads == 1)


@pytest.mark.parametrize("num_threads", [1, 4])
def test_the_first_bad_image_of_a_list_is_named(num_threads: int) -> None:
    items = [encoded(photo(), "JPEG")] * 8
    items[5] = b"text"
    items[6] = b""
    with pytest.raises(DecodeError, match=r"^image 5: .*known format") as caught:
        hvs.decode(items, num_threads=num_threads)
    assert caught.value.position == 5
    with pytest.raises(DecodeError) as alone:
        decode_image(items[5])
    assert alone.value.position is None


def test_options_hold_for_every_image_of_a_list() -> None:
    with pytest.raises(DecodeError, match="^image 1: .*at most 1999 pixels"):
        hvs.decode([photo(), photo(40, 50)], max_pixels=1999)


def test_a_list_of_nothing_is_an_empty_batch() -> None:
    assert len(hvs.decode([])) == 0


def test_a_batch_of_pixels_is_a_list_of_images() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    for items in (pixels, torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())):
        for image, expected in zip(hvs.decode(items), pixels, strict=True):
            assert_image(image.numpy(), expected)


@pytest.mark.parametrize("items", [b"\xff\xd8\xff", bytearray(3), memoryview(b"abc"), "photo.jpg"])
def test_a_single_image_is_not_a_list(items: Any) -> None:
    with pytest.raises(HvsError, match="expected a list of images.*put a single image into a list"):
        hvs.decode(items)


def test_no_thread_is_an_error() -> None:
    with pytest.raises(HvsError, match="num_threads must be a whole number of at least 1, got 0"):
        hvs.decode([photo()], num_threads=0)


def test_images_go_to_the_device() -> None:
    batch = hvs.decode([photo()], device="meta")
    assert batch.device == torch.device("meta") and tuple(batch[0].shape) == (37, 53, 3)


@pytest.mark.parametrize("device", ["cuda", "cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(HvsError, match=f'expected a device of this machine, got .{device}.: .*decode with device="cpu"'):
        hvs.decode([photo()], device=device)


def test_cores_of_this_process_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    monkeypatch.setattr(module, "ThreadPoolExecutor", lambda *args, **options: pytest.fail("more threads than cores"))
    assert len(hvs.decode([photo()] * 3)) == 3
