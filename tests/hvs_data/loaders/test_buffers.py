"""Memory is used again, and never while anything refers to it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hvs_data.loaders.buffers import BufferPool


def address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def test_memory_is_used_again_once_it_is_dropped() -> None:
    pool = BufferPool(spare=2)
    first = pool.take(1000, torch.float32)
    place = address(first)
    del first
    assert address(pool.take(1000, torch.float32)) == place


@pytest.mark.parametrize(
    "keep",
    [
        lambda t: t,
        lambda t: t[3:5],
        lambda t: t.view(10, 100).T,
        lambda t: t.numpy(),
        lambda t: t.numpy()[::7],
        lambda t: t.untyped_storage(),
        lambda t: torch.from_dlpack(t),
        lambda t: np.from_dlpack(t),
        lambda t: t.detach(),
        lambda t: {"in": [t]},
    ],
)
def test_memory_is_not_used_again_while_anything_refers_to_it(keep: Callable[[Tensor], Any]) -> None:
    pool = BufferPool(spare=2)
    tensor = pool.take(1000, torch.float32)
    place, kept = address(tensor), keep(tensor)
    del tensor
    gc.collect()
    assert address(pool.take(1000, torch.float32)) != place
    del kept
    gc.collect()
    others = [pool.take(1000, torch.float32) for _ in range(3)]
    assert place in map(address, others)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.uint8])
def test_a_block_serves_every_type_of_about_its_size(dtype: torch.dtype) -> None:
    pool = BufferPool(spare=4)
    place = address(pool.take(4096, torch.uint8))
    tensor = pool.take(4096 // dtype.itemsize, dtype)
    assert (tensor.dtype, tensor.shape, address(tensor)) == (dtype, (4096 // dtype.itemsize,), place)
    del tensor
    smaller = pool.take(3000 // dtype.itemsize, dtype)
    assert address(smaller) == place and smaller.numel() == 3000 // dtype.itemsize


def test_a_block_is_not_wasted_on_a_small_tensor() -> None:
    pool = BufferPool(spare=4)
    place = address(pool.take(10_000, torch.uint8))
    assert address(pool.take(100, torch.uint8)) != place


def test_blocks_in_excess_are_given_up() -> None:
    pool = BufferPool(spare=2)
    kept = [pool.take(1000, torch.uint8) for _ in range(20)]
    assert len(pool._blocks) == 20
    kept.clear()
    pool.take(1000, torch.uint8)
    assert len(pool._blocks) <= 3


def test_nothing_needs_no_memory() -> None:
    assert BufferPool(spare=1).take(0, torch.float32).shape == (0,)
