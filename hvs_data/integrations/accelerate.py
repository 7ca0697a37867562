"""Accelerate: a loader that an Accelerator treats as one of its own.

``accelerator.prepare`` hands anything but a DataLoader back as it is. What its own loaders do beside loading is done here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from hvs_data.errors import HvsError
from hvs_data.loaders.hard_view_loader import HardViewLoader
from hvs_data.loaders.view_loader import ViewLoader

__all__ = ["prepare_loader"]

_MIXED = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp8": torch.bfloat16}


def prepare_loader(accelerator: Any, loader: HardViewLoader | ViewLoader) -> PreparedLoader:
    """A loader for the loop of an Accelerator, beside ``accelerator.prepare(model, optimizer)``.

    - ``accelerator.accumulate`` learns which batch is an epoch's last one, so that gradients left over are stepped on there, as with a
      prepared DataLoader.
    - Scoring casts automatically to the type of ``accelerator.mixed_precision``, where the selector has no ``autocast`` of its own.
    - ``accelerator.save_state`` and ``load_state`` take the loader's place along.

    Args:
        accelerator: the ``accelerate.Accelerator``.
        loader: on the accelerator's device; ``batch_size`` is that of one process.

    Raises:
        HvsError: a loader of another kind or on another device, or ``split_batches``, under which a batch would be that of all
            processes.
    """
    if not isinstance(loader, (HardViewLoader, ViewLoader)):
        raise HvsError(f"expected a HardViewLoader or a ViewLoader, got {type(loader).__name__}; pass others to accelerator.prepare")
    if not _same_device(loader.device, accelerator.device):
        raise HvsError(
            f"expected a loader on the accelerator's device {accelerator.device}, got one on {loader.device}; make it with "
            "ViewLoader(..., device=accelerator.device)"
        )
    if accelerator.split_batches and accelerator.num_processes > 1:
        raise HvsError(
            "expected an Accelerator without split_batches, got one that counts a batch over all processes; leave it off and pass "
            f"batch_size / {accelerator.num_processes}, the images of one process, to the loader"
        )
    score_as(accelerator, loader)
    prepared = PreparedLoader(accelerator, loader)
    accelerator.register_for_checkpointing(prepared)
    return prepared


def score_as(accelerator: Any, loader: HardViewLoader | ViewLoader) -> None:
    """Let a loader's selector, if it has no ``autocast`` of its own, score as the accelerator's forwards run.

    A prepared model casts inside its ``forward``, which scoring passes by when it calls the model's parts.
    """
    if isinstance(loader, HardViewLoader) and loader.selector.autocast is None:
        loader.selector.autocast = autocast_of(accelerator)


def autocast_of(accelerator: Any) -> torch.dtype | None:
    """To which type an accelerator's forwards cast automatically; None where they do not."""
    switched_off = accelerator.autocast_handler is not None and not accelerator.autocast_handler.enabled
    return None if switched_off or not accelerator.native_amp else _MIXED.get(accelerator.mixed_precision)


def _same_device(mine: torch.device, other: torch.device) -> bool:
    return mine.type == other.type and (mine.index == other.index or None in (mine.index, other.index))


class PreparedLoader:
    """A loader of views which tells the accelerator that it is being iterated over. All else is the loader's own.

    Args:
        accelerator, loader: as for :func:`prepare_loader`, which makes one.

    Attributes:
        loader: as given.
        end_of_dataloader: whether the latest batch is the last one of its epoch; read by the accelerator's ``gradient_state``.
        remainder: images at the end of an epoch that ``gather_for_metrics`` should keep; 0, for all.
    """

    def __init__(self, accelerator: Any, loader: HardViewLoader | ViewLoader):
        self.loader = loader
        self.end_of_dataloader = False
        self.remainder = 0
        self._gradient_state = accelerator.gradient_state

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        self.end_of_dataloader = False
        self._gradient_state._add_dataloader(self)
        try:
            for batch in self.loader:
                self.end_of_dataloader = self.loader.batches_left == 0
                yield batch
        finally:
            self._gradient_state._remove_dataloader(self)

    def state_dict(self) -> dict[str, Any]:
        """As the loader's."""
        return self.loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As the loader's."""
        self.loader.load_state_dict(state)

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # not set yet, while a copy is made
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __repr__(self) -> str:
        return f"PreparedLoader({self.loader!r})"
