"""The data structures that pass between layers: rows, images, selections, batches."""

# Axes: B image, V view slot, C channel, H W pixels, S side of a square view.

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from hvs_data.boxes import pairwise_iou
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
        # a tuple would index the B and V axes at once
        which = list(rows) if isinstance(rows, tuple) else rows
        return self._each(lambda value: value[which])

    def views(self, slots: Sequence[int]) -> ViewParams:
        """The same slots of every image: indexes the V axis."""
        slots = list(slots)
        return self._each(lambda value: value[:, slots], slots)

    def take(self, slots_BK: Tensor) -> ViewParams:
        """Other slots for each image, such as ``batch.selection.pair``.

        Args:
            slots_BK: integer [B, K]. All slots taken into one column must share a size; where their roles differ within a
                column, the column keeps the role of its first image.

        Raises:
            HvsError: slots of another shape, slots that do not exist, or slots of different sizes in one column.
        """
        slots_BK = torch.as_tensor(slots_BK, dtype=torch.int64, device="cpu")
        if slots_BK.ndim != 2 or slots_BK.shape[0] != self.batch_size:
            raise HvsError(f"take needs slots of shape [{self.batch_size}, K], got {tuple(slots_BK.shape)}; pass one row of slots an image")
        if slots_BK.numel() and not 0 <= slots_BK.min() <= slots_BK.max() < self.num_views:
            raise HvsError(
                f"take needs slots from 0 to {self.num_views - 1}, got values from {slots_BK.min()} to {slots_BK.max()}; "
                "pass slots of these rows, such as selection.pair"
            )
        size_V = torch.tensor(self.size)
        for k in range(slots_BK.shape[1]):
            sizes = size_V[slots_BK[:, k]].unique().tolist()
            if len(sizes) > 1:
                raise HvsError(
                    f"take needs slots of one size in a column, got sizes {sizes} in column {k}; take roles of other sizes apart"
                )
        columns = slots_BK[0].tolist() if self.batch_size else [0] * slots_BK.shape[1]
        image_B1 = torch.arange(self.batch_size)[:, None]
        return self._each(lambda value: value[image_B1, slots_BK], columns)

    def _each(self, change: Callable[[Tensor], Tensor], slots: Sequence[int] | None = None) -> ViewParams:
        """Rows with every tensor changed, and named and sized after these slots (None: as they are)."""
        changed: dict[str, Any] = {name: change(value) for name, value in self.tensors().items()}
        if slots is not None:
            changed |= {"role": tuple(self.role[v] for v in slots), "size": tuple(self.size[v] for v in slots)}
        return replace(self, **changed)

    @staticmethod
    def concatenate(parts: Sequence[ViewParams]) -> ViewParams:
        """Join rows of the same recipe along the image axis.

        Raises:
            HvsError: no parts, or parts whose slots or spec differ.
        """
        if not parts:
            raise HvsError("concatenate needs the rows of at least one part, got none; keep the rows of an empty batch, they have B = 0")
        for position, part in enumerate(parts):
            expected, arrived = ((rows.role, rows.size, rows.spec) for rows in (parts[0], part))
            if arrived != expected:
                raise HvsError(
                    f"concatenate needs parts of one recipe, with roles, sizes and spec {expected}, got {arrived} in part {position}"
                )
        joined: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in parts[0].tensors()}
        return replace(parts[0], **joined)


class ImageBatch(Sequence[Tensor]):
    """Decoded images of any sizes: a sequence of uint8 [H, W, 3] RGB tensors on one device.

    Args:
        images: uint8 arrays or tensors of shape [H, W, 3], H and W at least 1, on one device. They are kept, not copied, if
            contiguous (and writable, if arrays).

    Attributes:
        height, width: int64 [B], on the CPU.

    Raises:
        HvsError: an image of another type or shape, or images on different devices.
    """

    def __init__(self, images: Sequence[Tensor | np.ndarray]):
        self._images = [self._checked(position, image) for position, image in enumerate(images)]
        devices = {image.device for image in self._images}
        if len(devices) > 1:
            raise HvsError(f"expected images on one device, got {sorted(map(str, devices))}; move them to one of these first")
        self.height = torch.tensor([image.shape[0] for image in self._images], dtype=torch.int64)
        self.width = torch.tensor([image.shape[1] for image in self._images], dtype=torch.int64)

    @staticmethod
    def _checked(position: int, image: Tensor | np.ndarray) -> Tensor:
        known = isinstance(image, (Tensor, np.ndarray))
        if not known or image.dtype not in (torch.uint8, np.uint8) or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            arrived = f"{image.dtype} {tuple(image.shape)}" if known else type(image).__name__
            raise HvsError(f"image {position}: expected uint8 of shape [H, W, 3] with H, W >= 1, got {arrived}; convert it to RGB first")
        # from_numpy refuses negative strides and warns of read-only arrays, such as those of Pillow images
        return image.contiguous() if isinstance(image, Tensor) else torch.from_numpy(np.require(image, requirements=("C", "W")))

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, position: int) -> Tensor: ...

    @overload
    def __getitem__(self, position: slice) -> ImageBatch: ...

    def __getitem__(self, position: int | slice) -> Tensor | ImageBatch:
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
        pair: int64 [B, 2], the chosen slots, in the order in which the trainer gets them: first < second, unless the candidates'
            roles or an objective whose loss depends on the order say which view comes first.
        losses: float32 [B, V, V], the loss of every pair, larger = harder; NaN where the pair is not legal. Symmetric, unless the
            loss depends on the order.
        legal: bool [V, V], the pairs (first, second) that could be chosen.
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
        pair_B2 = self.pair.cpu()
        image_B = torch.arange(pair_B2.shape[0])
        return pairwise_iou(self.params.box)[image_B, pair_B2[:, 0], pair_B2[:, 1]]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Selection:
        """The same selection with its tensors on another device (rows stay on the CPU)."""
        return replace(
            self,
            pair=self.pair.to(device, non_blocking=non_blocking),
            losses=self.losses.to(device, non_blocking=non_blocking),
            legal=self.legal.to(device, non_blocking=non_blocking),
            non_finite=self.non_finite.to(device, non_blocking=non_blocking),
        )


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
