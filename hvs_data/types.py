"""The data structures that pass between layers: rows, images, selections, batches."""

# Axes: B image, V view slot, C channel, H W pixels, S side of a square view.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hvs_data.errors import HvsError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class RenderSpec:
    """What every view of a recipe shares when it is turned into pixels.

    Attributes:
        interpolation: "bilinear" or "bicubic" (a = -0.5), antialiased in both cases.
        mean, std: per RGB channel, on the 0-1 scale.
        blur_kernel: odd number of taps of the Gaussian blur at a slot's own size.
        solarize_threshold: on the 0-1 scale; values at or above it are inverted.
    """

    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    blur_kernel: int = 23
    solarize_threshold: float = 128 / 255


@dataclass(frozen=True)
class ViewParams:
    """Rows: everything that describes B x V views, without a pixel. All tensors are on the CPU.

    Attributes:
        box: int32 [B, V, 4], (top, left, height, width) in source pixels.
        flip, gray, solarize: bool [B, V].
        brightness, contrast, saturation: float32 [B, V], factors; 1 where not drawn.
        hue: float32 [B, V], a shift in turns; 0 where not drawn.
        order: uint8 [B, V, 4], the sequence in which 0 brightness, 1 contrast, 2 saturation and 3 hue are applied.
        blur_sigma: float32 [B, V], pixels at the slot's own size; 0 = no blur.
        role: V names, the role of each slot ("view", "global1", "global2", "local").
        size: V ints, the side in pixels at which the recipe wants each slot.
        spec: what all views share.
    """

    box: Tensor
    flip: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    order: Tensor
    gray: Tensor
    blur_sigma: Tensor
    solarize: Tensor
    role: tuple[str, ...]
    size: tuple[int, ...]
    spec: RenderSpec = field(default_factory=RenderSpec)

    @property
    def batch_size(self) -> int:
        return self.box.shape[0]

    @property
    def num_views(self) -> int:
        return self.box.shape[1]

    def tensors(self) -> dict[str, Tensor]:
        """The per-view tensors by name, first axes [B, V]."""
        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}

    def slots(self, role: str) -> tuple[int, ...]:
        """The slots that hold a role, in order."""
        return tuple(v for v, name in enumerate(self.role) if name == role)

    def images(self, rows: slice | Sequence[int] | Tensor) -> ViewParams:
        """The rows of some images: indexes the B axis."""
        return replace(self, **{name: value[rows] for name, value in self.tensors().items()})

    def views(self, slots: Sequence[int]) -> ViewParams:
        """The same slots of every image: indexes the V axis."""
        slots = list(slots)
        kept = {name: value[:, slots] for name, value in self.tensors().items()}
        return replace(self, role=tuple(self.role[v] for v in slots), size=tuple(self.size[v] for v in slots), **kept)

    def take(self, slots_BK: Tensor) -> ViewParams:
        """Other slots for each image, such as ``batch.selection.pair``.

        Args:
            slots_BK: integer [B, K]. All slots taken into one column must share a size; where their roles differ within a
                column, the column keeps the role of its first image.
        """
        slots_BK = torch.as_tensor(slots_BK, dtype=torch.int64, device="cpu")
        if slots_BK.ndim != 2 or slots_BK.shape[0] != self.batch_size:
            raise HvsError(f"take needs slots of shape [{self.batch_size}, K], got {tuple(slots_BK.shape)}; pass one row of slots an image")
        size_V = torch.tensor(self.size)
        columns = [0] * slots_BK.shape[1]
        for k in range(slots_BK.shape[1]):
            sizes = size_V[slots_BK[:, k]].unique().tolist()
            if len(sizes) > 1:
                raise HvsError(f"take needs slots of one size in a column, got sizes {sizes} in column {k}; take roles of different sizes apart")
            columns[k] = int(slots_BK[0, k]) if self.batch_size else 0
        image_B1 = torch.arange(self.batch_size)[:, None]
        kept = {name: value[image_B1, slots_BK] for name, value in self.tensors().items()}
        return replace(self, role=tuple(self.role[v] for v in columns), size=tuple(self.size[v] for v in columns), **kept)

    @staticmethod
    def concatenate(parts: Sequence[ViewParams]) -> ViewParams:
        """Join rows of the same recipe along the image axis."""
        joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in parts[0].tensors()}
        return replace(parts[0], **joined)


class ImageBatch(Sequence[Tensor]):
    """Decoded images of any sizes: a sequence of uint8 [H, W, 3] RGB tensors on one device.

    Args:
        images: uint8 arrays or tensors of shape [H, W, 3], H and W at least 1. They are kept, not copied, if contiguous.

    Attributes:
        height, width: int64 [B], on the CPU.
    """

    def __init__(self, images: Sequence[Tensor | np.ndarray]):
        self._images = [self._checked(position, image) for position, image in enumerate(images)]
        self.height = torch.tensor([image.shape[0] for image in self._images], dtype=torch.int64)
        self.width = torch.tensor([image.shape[1] for image in self._images], dtype=torch.int64)

    @staticmethod
    def _checked(position: int, image: Tensor | np.ndarray) -> Tensor:
        tensor = torch.from_numpy(image) if isinstance(image, np.ndarray) else image
        if not isinstance(tensor, Tensor) or tensor.dtype != torch.uint8 or tensor.ndim != 3 or tensor.shape[2] != 3 or 0 in tensor.shape:
            arrived = f"{tensor.dtype} {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else type(image).__name__
            raise HvsError(f"image {position}: expected uint8 of shape [H, W, 3] with H, W >= 1, got {arrived}; convert it to RGB first")
        return tensor.contiguous()

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, position):  # type: ignore[no-untyped-def]
        if isinstance(position, slice):
            return ImageBatch(self._images[position])
        return self._images[position]

    @property
    def device(self) -> torch.device:
        return self._images[0].device if self._images else torch.device("cpu")

    def __repr__(self) -> str:
        return f"ImageBatch({len(self)} images, {sum(image.numel() for image in self._images) / 2**20:.1f} MiB, {self.device})"


@dataclass(frozen=True)
class Selection:
    """Which candidates were chosen, and why.

    Attributes:
        pair: int64 [B, 2], the chosen slots (first < second).
        losses: float32 [B, V, V], the loss of every pair, larger = harder; NaN where the pair is not legal. Symmetric.
        legal: bool [V, V], upper triangular: the pairs that could be chosen.
        non_finite: int64 scalar tensor, legal pair losses that were NaN or infinite and so could not be chosen.
        params: the candidates' rows, where they are known.
    """

    pair: Tensor
    losses: Tensor
    legal: Tensor
    non_finite: Tensor
    params: ViewParams | None = None

    @property
    def loss(self) -> Tensor:
        """float32 [B]: the loss of the chosen pair."""
        image_B = torch.arange(self.pair.shape[0], device=self.pair.device)
        return self.losses[image_B, self.pair[:, 0], self.pair[:, 1]]

    @property
    def iou(self) -> Tensor | None:
        """float32 [B]: box overlap of the chosen pair; None if the candidates' rows are not known."""
        if self.params is None:
            return None
        from hvs_data.boxes import pairwise_iou

        pair_B2 = self.pair.cpu()
        image_B = torch.arange(pair_B2.shape[0])
        return pairwise_iou(self.params.box)[image_B, pair_B2[:, 0], pair_B2[:, 1]]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Selection:
        """The same selection with its tensors on another device (rows stay on the CPU)."""
        moved = {f.name: value.to(device, non_blocking=non_blocking) for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}
        return replace(self, **moved)


@dataclass(frozen=True)
class Batch:
    """What a loader yields. Unpacks as ``views, labels``.

    Attributes:
        views: list of [B, 3, S, S] tensors, one a view that the trainer expects.
        labels: int64 [B]; -1 where the source has none.
        index: int64 [B], the sample's index in the source.
        params: the rows of all candidates; for a loader without selection these are the rows of ``views``.
        epoch: the epoch whose rows these are.
        selection: the chosen candidates; None for a loader without selection.
    """

    views: list[Tensor]
    labels: Tensor
    index: Tensor
    params: ViewParams
    epoch: int = 0
    selection: Selection | None = None

    def __iter__(self) -> Iterator[Any]:
        yield self.views
        yield self.labels

    def __len__(self) -> int:
        return 2

    def __getitem__(self, position: int) -> Any:
        return (self.views, self.labels)[position]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch with views, labels, index and selection on another device."""
        return replace(
            self,
            views=[view.to(device, non_blocking=non_blocking) for view in self.views],
            labels=self.labels.to(device, non_blocking=non_blocking),
            index=self.index.to(device, non_blocking=non_blocking),
            selection=None if self.selection is None else self.selection.to(device, non_blocking),
        )
