"""The memory of a batch of views: its order, and what it refuses."""

# Axes: V view slot, B image, C channel, S side.

from __future__ import annotations

import itertools

import pytest
import torch

from hvs_data.errors import HvsError
from hvs_data.kernels.render.canvas import DTYPES, Canvas

V, B, S = 2, 3, 5


def place(v: int, b: int, c: int, y: int, x: int, channels_last: bool, image_major: bool) -> int:
    """Where an element lies, by the written order of the axes, outermost first."""
    outer = [(b, B), (v, V)] if image_major else [(v, V), (b, B)]
    inner = [(y, S), (x, S), (c, 3)] if channels_last else [(c, 3), (y, S), (x, S)]
    position = 0
    for index, length in outer + inner:
        position = position * length + index
    return position


@pytest.mark.parametrize("image_major", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_pixel_has_its_place(dtype: torch.dtype, channels_last: bool, image_major: bool) -> None:
    canvas = Canvas.empty(V, B, S, dtype, channels_last=channels_last, image_major=image_major)
    assert canvas.pixels.shape == (V, B, 3, S, S) and canvas.pixels.dtype == dtype and canvas.size == S
    assert canvas.flat.shape == (V * B * 3 * S * S,)
    for index in itertools.product(range(V), range(B), range(3), range(S), range(S)):
        element = canvas.pixels[index]
        assert element.data_ptr() - canvas.flat.data_ptr() == place(*index, channels_last, image_major) * dtype.itemsize


@pytest.mark.parametrize("channels_last", [False, True])
def test_each_slot_is_a_contiguous_batch(channels_last: bool) -> None:
    canvas = Canvas.empty(V, B, S, torch.float32, channels_last=channels_last)
    views = canvas.views()
    assert len(views) == V
    for v, view in enumerate(views):
        assert view.shape == (B, 3, S, S)
        assert view.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        assert view.data_ptr() == canvas.pixels[v].data_ptr()


def test_a_canvas_on_memory_uses_its_start_and_no_more() -> None:
    memory = torch.arange(100.0)
    canvas = Canvas.on(memory[10:], 1, 2, 3)
    assert canvas.flat.shape == (54,) and canvas.flat.data_ptr() == memory[10:].data_ptr()
    assert torch.equal(canvas.pixels.flatten(), torch.arange(10.0, 64.0))
    canvas.pixels.fill_(-1)
    assert (memory[:10] >= 0).all() and (memory[10:64] == -1).all() and (memory[64:] >= 0).all()


def test_a_canvas_may_hold_nothing() -> None:
    assert Canvas.empty(4, 0, 8, torch.float16).pixels.shape == (4, 0, 3, 8, 8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int8, torch.int32])
def test_other_dtypes_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(HvsError, match=f"dtype must be one of torch.float32, .*, got {dtype}; convert"):
        Canvas.empty(1, 1, 1, dtype)
    with pytest.raises(HvsError, match=f"got {dtype}"):
        Canvas.on(torch.zeros(3, dtype=dtype), 1, 1, 1)


@pytest.mark.parametrize("memory", [torch.zeros(53), torch.zeros(54, 1), torch.zeros(108)[::2]])
def test_memory_of_another_form_is_refused(memory: torch.Tensor) -> None:
    with pytest.raises(HvsError, match="1 views of 2 images of size 3 need 54 elements in a row, got memory of shape"):
        Canvas.on(memory, 1, 2, 3)
