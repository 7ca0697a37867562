"""The settings of the forwards that score candidates."""

# Axes: N image of a forward, S side of a square view.

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hvs_data.arguments.checks import whole
from hvs_data.errors import SelectionError
from hvs_data.forwards.forward import BN_MODES


@dataclass(frozen=True)
class Asking:
    """How the model is run.

    Attributes:
        bn: which statistics batch normalisation uses, one of BN_MODES.
        chunk: the most images in one forward; None for no bound.
        dropout: whether dropout and drop path stay on.
        autocast: type to which forwards cast automatically; None leaves it to the code around.
        prepare: what the trainer's step does to its views before the model; None for nothing.

    Raises:
        SelectionError: a setting that means nothing.
    """

    bn: str = "fused"
    chunk: int | None = None
    dropout: bool = False
    autocast: torch.dtype | None = None
    prepare: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        if self.bn not in BN_MODES:
            raise SelectionError(
                f"bn must be one of {BN_MODES}, got {self.bn!r}; it says which statistics batch normalisation uses while scoring"
            )
        if self.chunk is not None and not whole(self.chunk):
            raise SelectionError(f"chunk must be a whole number of at least 1, or None, got {self.chunk!r}")
        if self.autocast is not None and not (isinstance(self.autocast, torch.dtype) and self.autocast.is_floating_point):
            raise SelectionError(f"autocast must be a floating type, such as torch.bfloat16, or None, got {self.autocast!r}")
        if self.prepare is not None and not callable(self.prepare):
            raise SelectionError(f"prepare must be a function of views, such as one that normalises them, or None, got {self.prepare!r}")
        object.__setattr__(self, "chunk", None if self.chunk is None else int(self.chunk))

    def casting(self, device: torch.device) -> AbstractContextManager[Any]:
        """The context in which forwards cast."""
        if self.autocast is None:
            return nullcontext()
        # a weight that is cast under no_grad and kept would lack its gradient in an autocast region around
        return torch.autocast(device.type, dtype=self.autocast, cache_enabled=False)
