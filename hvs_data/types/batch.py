"""What a loader yields."""

# Axes: B image, V view slot, K emitted view, C channel, H W pixels of a view, G G' sides of a grid of patches.

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from hvs_data.types.rows import LOCAL, ViewParams
from hvs_data.types.selection import Selection, moved


@dataclass(frozen=True)
class Batch:
    """What a loader yields. Unpacks as ``views, labels``, or as ``views, labels, masks`` where the recipe has masking.

    Attributes:
        views: list of [B, C, H, W] tensors, one a view that the trainer expects, in the order of ``selection.slots``.
        labels: int64 [B]; -1 where the source has none. Or what ``HardViewLoader(labels=)`` made of the batch.
        index: int64 [B], the sample's index in the source.
        params: the rows of all candidates; for a loader without selection these are the rows of ``views``.
        epoch: the epoch whose rows these are.
        selection: the chosen candidates; None for a loader without selection.
        normalized: whether the views are normalised as the recipe says.
        twins: for each of the recipe's twins a list of [B, C, H, W] tensors, one for each of ``views`` that is not local, in order.
    """

    views: list[Tensor]
    labels: Tensor
    index: Tensor
    params: ViewParams
    epoch: int = 0
    selection: Selection | None = None
    normalized: bool = True
    twins: list[list[Tensor]] = field(default_factory=list)

    @property
    def masks(self) -> list[Tensor] | None:
        """One bool [B, G, G'] tensor on the CPU for each of ``views`` that is not local, in order; None without masking."""
        if self.params.mask is None:
            return None
        roles, mask = self.params.role, self.params.mask
        if self.selection is None:
            return [mask[:, slot] for slot, role in enumerate(roles) if role != LOCAL]
        slots_BK = self.selection.slots[:, : self.selection.global_views + self.selection.extra_views].cpu()
        return list(mask[torch.arange(len(mask))[:, None], slots_BK].unbind(1))

    def _items(self) -> tuple[Any, ...]:
        masks = self.masks
        return (self.views, self.labels) if masks is None else (self.views, self.labels, masks)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items())

    def __len__(self) -> int:
        return 2 if self.params.mask is None else 3

    def __getitem__(self, position: int) -> Any:
        return self._items()[position]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch with views, labels, index and selection on another device."""
        return replace(
            self,
            views=[view.to(device, non_blocking=non_blocking) for view in self.views],
            labels=moved(self.labels, device, non_blocking),
            index=self.index.to(device, non_blocking=non_blocking),
            twins=moved(self.twins, device, non_blocking),
            selection=None if self.selection is None else self.selection.to(device, non_blocking),
        )
