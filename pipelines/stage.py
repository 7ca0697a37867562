"""A stage of the user's own: how it is called, and what it draws."""

# Axes: N view, C channel, H W pixels.

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from hvs_data.drawing.arguments import asked_generators, handed, takes
from hvs_data.drawing.context import drawing
from hvs_data.drawing.numbers import Numbers
from hvs_data.errors import HvsError
from hvs_data.pipelines.sharing import keeps_nothing
from hvs_data.threads.exclusive import after_fork

ExtraStage = Callable[..., Tensor]

_stages: weakref.WeakSet[Stage] = weakref.WeakSet()


class Stage:
    """A function of finished views, for ``extra_stage`` of :class:`hvs_data.ViewLoader` and :func:`hvs_data.render`.

    What it draws depends on (seed, epoch, index, slot) of the view alone, so that equal seeds give equal views whatever the threads, the
    prefetching and the ranks, after a resume, and where a view is rendered again at another size (``score_size``):

    - What it draws from torch (on any device), from functions of ``numpy.random`` and from Python's ``random`` is taken from the view's own
      stream; the generators of the process are left alone.
    - A parameter annotated as a generator (``torch.Generator``, ``numpy.random.Generator``, ``numpy.random.RandomState`` or
      ``random.Random``), or named ``generator`` (torch's) or ``rng`` (numpy's) without an annotation, is given the view's own.
    - Generators that it makes or holds itself are its own affair. :func:`hvs_data.integrations.albumentations.stage_of` sets
      albumentations' by view.

    A function that is passed as ``extra_stage`` without this class is called as ``Stage(function)``.

    Args:
        function: a function or module of float32 [N, C, H, W] RGB, values 0-1, that returns the same shape.
        batched: False calls it with one view at a time, N = 1, as most libraries draw once a call. True calls it with many views: of one
            image at a time on the CPU, of a whole batch on a CUDA device. A parameter named ``keys`` is then given int64 [N], a
            number a view, from which :func:`hvs_data.uniform` makes numbers of every view's own. What it draws in other ways belongs to
            the call, and not to a view: it depends on which views the call has, so on the batch on a CUDA device, and with
            ``score_size`` or ``prefilter`` a chosen view that is rendered again gets other numbers than when it was scored.
        parallel: whether several threads may call it at once. By default where it is certain that no call changes what another one meets:
            for layers of ``torch.nn``, transforms of torchvision, and functions that name nothing but such and plain values.

    Raises:
        HvsError: a function that cannot be called.
    """

    def __init__(self, function: ExtraStage, *, batched: bool = False, parallel: bool | None = None):
        if not callable(function):
            raise HvsError(
                f"extra_stage must be a function or module of float tensors [N, C, H, W], got {type(function).__name__}; pass a "
                "torch.nn.Module, such as a Kornia augmentation"
            )
        self.function = function
        self.batched = batched
        self._asked = asked_generators(function)
        self._takes_keys = takes(function, "keys")
        self._lock: Any = nullcontext() if (keeps_nothing(function) if parallel is None else parallel) else threading.Lock()
        _stages.add(self)

    @property
    def parallel(self) -> bool:
        """Whether several threads call it at once."""
        return isinstance(self._lock, nullcontext)

    def __call__(self, x_NCHW: Tensor, key_N: Tensor | None) -> Tensor:
        """Views through the stage.

        Args:
            x_NCHW: float32; may be written over.
            key_N: int64, on the CPU; None where keys are not known, which makes drawing an error.
        """
        numbers = Numbers(None if key_N is None else (int(key_N[0]), int(self.batched)))
        with self._lock, drawing(numbers):
            arguments = handed(self._asked, numbers, x_NCHW.device)
            if self._takes_keys:
                arguments["keys"] = _on_device(key_N, x_NCHW.device)
            return self._checked(self.function(x_NCHW, **arguments), x_NCHW)

    def _checked(self, staged: Any, x_NCHW: Tensor) -> Tensor:
        shape = x_NCHW.shape
        if not isinstance(staged, Tensor) or staged.shape != shape or staged.device != x_NCHW.device or not staged.is_floating_point():
            arrived = f"{staged.dtype} {tuple(staged.shape)} on {staged.device}" if isinstance(staged, Tensor) else type(staged).__name__
            raise HvsError(
                f"extra_stage must return a float tensor {tuple(shape)} on {x_NCHW.device}, as it was given, got {arrived}; keep the size, "
                "and move modules to the device of the images before handing them over"
            )
        return staged

    def _renew_lock(self) -> None:
        if not self.parallel:
            self._lock = threading.Lock()


def _on_device(key_N: Tensor | None, device: torch.device) -> Tensor:
    if key_N is None:
        raise HvsError("expected rows with a key for a stage that takes keys, got rows without; draw them with hvs_data.sample_views")
    # a copy from memory that is not page-locked may wait for all that is queued before it
    return (key_N.pin_memory() if device.type == "cuda" else key_N).to(device, non_blocking=True)


def _renew_locks() -> None:
    for stage in list(_stages):
        stage._renew_lock()


after_fork(_renew_locks)
