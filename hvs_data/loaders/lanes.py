"""How a batch gets to a device beside the consumer's work: memory, copies, a stream, and handing over without waiting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor


class Lane(Protocol):
    """A queue of work on a device, filled by one thread and emptied by the device, whose results another thread takes over."""

    def host_memory(self, size: int) -> Tensor:
        """uint8 [>= size] on the host, uninitialised, that the device can copy from while the host goes on."""

    @property
    def device(self) -> torch.device:
        """The device, with its number."""

    def working(self) -> Any:
        """A context in which work is queued on this lane, by the calling thread."""

    def to_device(self, tensor: Tensor) -> Tensor:
        """A copy on the device, queued; the tensor may be let go at once, but not written to."""

    def mark(self) -> Any:
        """A sign that is passed when all that is queued so far is done."""

    def hand_over(self, mark: Any, tensors: Iterable[Tensor]) -> None:
        """Let the consumer's queue, that of the calling thread, wait for a mark, and keep memory until that queue is done with it."""


class CudaLane:
    """Implements :class:`Lane` with a CUDA stream beside the consumer's.

    All lanes of a device share one stream: torch keeps memory for each stream apart, and a new one every epoch would hoard it.
    """

    def __init__(self, device: torch.device):
        # "cuda" is the current device of this thread, which other threads do not know
        self._device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        self._stream = _stream_of(self._device.index)

    @property
    def device(self) -> torch.device:
        return self._device

    def host_memory(self, size: int) -> Tensor:
        # torch's own pool of page-locked memory, which knows when a copy to the device has ended
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    @contextmanager
    def working(self) -> Iterator[None]:
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            yield

    def to_device(self, tensor: Tensor) -> Tensor:
        pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
        return pinned.to(self._device, non_blocking=True)

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event()
        event.record(self._stream)
        return event

    def hand_over(self, mark: torch.cuda.Event, tensors: Iterable[Tensor]) -> None:
        consumer = torch.cuda.current_stream(self._device)
        consumer.wait_event(mark)
        for tensor in tensors:
            # else the lane could be given the memory again, once the tensor is gone, while the consumer's kernels still read it
            tensor.record_stream(consumer)


@cache
def _stream_of(index: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(torch.device("cuda", index))
