"""Queues that trainers keep beside their models: read at each scoring, never written."""

# Axes: D embedding, K key or sample of a queue, S queue (of the first and of the second view, or one for both).

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from hvs_data.arguments.values import type_name
from hvs_data.errors import SelectionError
from hvs_data.objectives.parts import describe

# A tensor, one of lightly's memory banks (or one for each view), or a function that returns either at each scoring.
Queue: TypeAlias = Tensor | nn.Module | Sequence[nn.Module] | Callable[[], Any]


def queue_reader(method: str, queue: Any, transposed: bool = False) -> Callable[[], Any]:
    """A function that returns the queue of the moment: what was given, or from memory banks [K, D] or [S, K, D], or those transposed.

    It hides the queue's module from :meth:`~hvs_data.Objective.modules`: nothing calls it, and scoring would copy it to protect it.
    """
    if isinstance(queue, Tensor):
        return partial(_itself, queue)
    banks = list(queue) if isinstance(queue, (nn.ModuleList, list, tuple)) else [queue]
    if any(isinstance(bank, nn.Module) for bank in banks):
        if not all(isinstance(getattr(bank, "bank", None), Tensor) for bank in banks):
            arrived = ", ".join(type_name(bank) for bank in banks)
            raise SelectionError(f"expected {method}'s queue= as modules with their rows in a buffer `bank`, got {arrived} without one")
        return partial(_read_banks, tuple(banks), transposed)
    if not callable(queue):
        raise SelectionError(
            f"expected {method}'s queue= as a tensor, a function that returns one, or memory banks, got {type_name(queue)}"
        )
    return queue


def _itself(queue: Tensor) -> Tensor:
    return queue


def _read_banks(banks: Sequence[Any], transposed: bool) -> Tensor:
    # by attribute each time: a move to another device replaces buffers
    rows = banks[0].bank if len(banks) == 1 else torch.stack([bank.bank for bank in banks])
    return rows.mT if transposed else rows


def keys_of(queue: Any, length: int) -> Tensor:
    """MoCo's queue [D, K], [K, D] or [2, D, K] with D = length -> [K, S, D]. Where D = K, [D, K] is meant."""
    if isinstance(queue, Tensor) and queue.is_floating_point():
        if queue.ndim == 3 and queue.shape[0] == 2 and length in queue.shape[1:]:
            return queue.permute(2, 0, 1) if queue.shape[1] == length else queue.transpose(0, 1)
        if queue.ndim == 2 and length in queue.shape:
            return (queue.T if queue.shape[0] == length else queue)[:, None]
    raise SelectionError(
        f"expected a queue of keys as floating [D, K] or [K, D] with D = {length}, the length of a key, or [2, D, K], got {describe(queue)}"
    )


def samples_of(queue: Any, length: int) -> list[Tensor]:
    """SwAV's queue [K, D] or [2, K, D] with D = length -> a tensor [K, D] for each view, or one for both."""
    if isinstance(queue, Tensor) and queue.is_floating_point() and queue.shape[-1] == length:
        if queue.ndim == 2:
            return [queue]
        if queue.ndim == 3 and queue.shape[0] == 2:
            return list(queue.unbind(0))
    raise SelectionError(
        f"expected a queue of embeddings as floating [K, D] or [2, K, D] with D = {length}, the length of an embedding, or None while it "
        f"is not in use, got {describe(queue)}"
    )
