"""A lane to a device that keeps a diary, and what tests of loaders on it compare."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

import hvs_data as hvs
from hvs_data.types import Batch


class DiaryLane:
    """A lane whose device is the CPU. Memory to copy from is spoilt after each copy, as it may be given to others then."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.diary: list[tuple[str, str]] = []  # what, and on which thread
        self.copies: list[int] = []
        self.open = self.marks = 0

    def note(self, what: str) -> None:
        self.diary.append((what, threading.current_thread().name))

    def host_memory(self, size: int) -> Tensor:
        return torch.full((size,), 77, dtype=torch.uint8)

    @contextmanager
    def working(self) -> Iterator[None]:
        self.open += 1
        self.note("work")
        yield
        self.open -= 1

    def to_device(self, tensor: Tensor) -> Tensor:
        assert self.open == 1, "queued on another lane"
        copy = tensor.clone()
        self.copies.append(tensor.nbytes)
        tensor.fill_(1)
        return copy

    def mark(self) -> int:
        assert self.open == 1
        self.marks += 1
        self.note(f"mark {self.marks}")
        return self.marks

    def hand_over(self, mark: int, tensors: Iterable[Tensor]) -> None:
        self.note(f"hand over {mark}")
        self.handed = [tensor.untyped_storage().data_ptr() for tensor in tensors]


def same(a: Batch, b: Batch) -> bool:
    tensors = [(x, y) for x, y in zip(a.views, b.views, strict=True)] + [(a.labels, b.labels), (a.index, b.index)]
    tensors += [(value, b.params.tensors()[name]) for name, value in a.params.tensors().items()]
    said = (a.epoch, a.normalized) == (b.epoch, b.normalized)
    return said and all(x.dtype == y.dtype and torch.equal(x, y) for x, y in tensors)


class FewPixels(hvs.Objective):
    """An objective of fixed weights: the negative cosine of a few pixels."""

    def encode(self, pixels: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(pixels.float(), 3).flatten(1)
