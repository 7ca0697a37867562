"""What every view of a batch is: the rows that say how it is made, and what all views of a recipe share."""

# Axes: B image, V view slot, C channel, H W pixels of an image or a view, G G' sides of a grid of patches.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from hvs_data.arguments.sizes import Size, height_width
from hvs_data.errors import HvsError
from hvs_data.types.images import FULL_RANGE

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# The role of small views in multi-crop: any number of them, of a size of their own, beside the pair.
LOCAL = "local"

# What stands in place of erased pixels: standard normal numbers.
NOISE = "noise"


@dataclass(frozen=True)
class RenderSpec:
    """What every view of a recipe shares when it is turned into pixels.

    Attributes:
        interpolation: "bilinear" or "bicubic" (a = -0.5), antialiased in both cases.
        mean, std: per channel, on the 0-1 scale; as many numbers as images and views have channels.
        blur_kernel: odd number of taps of the Gaussian blur at a slot's own size.
        solarize_threshold: on the 0-1 scale; values at or above it are inverted.
        erase_value: of erased pixels, on the scale of normalised values: a number, one for each channel, or "noise".
        value_range: the source's values that become 0 and 1, one pair for all channels or one for each; values outside are clipped.
            None takes the full range of the source's type: 0 to 255 of uint8, 0 to 65535 of uint16, 0 to 1 of float32.
    """

    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    blur_kernel: int = 23
    solarize_threshold: float = 128 / 255
    erase_value: float | tuple[float, ...] | str = 0.0
    value_range: tuple[tuple[float, float], ...] | None = None

    @property
    def channels(self) -> int:
        """C, of images and views."""
        return len(self.mean)

    def ranges(self, dtype: torch.dtype) -> tuple[tuple[float, float], ...]:
        """For each channel the values of images of this type that become 0 and 1."""
        ranges = ((0.0, FULL_RANGE[dtype]),) if self.value_range is None else self.value_range
        return ranges * (self.channels // len(ranges))


@dataclass(frozen=True)
class ViewParams:
    """Rows: everything that describes B x V views, without a pixel. All tensors are on the CPU.

    Attributes:
        box: int32 [B, V, 4], (top, left, height, width) in source pixels, or in pixels of the image that is ``resized``.
        flip, gray, solarize: bool [B, V].
        brightness, contrast, saturation: float32 [B, V], factors; 1 where not drawn.
        hue: float32 [B, V], a shift in turns; 0 where not drawn.
        order: uint8 [B, V, 4], the sequence in which 0 brightness, 1 contrast, 2 saturation and 3 hue are applied.
        blur_sigma: float32 [B, V], pixels at the slot's own size; 0 = no blur. In a view that is rendered at another size, it is scaled
            as the view's height.
        role: V names, the role of each slot ("view", "global1", "global2", "local").
        size: V sizes in pixels at which the recipe wants each slot: the side of a square, else (height, width).
        spec: what all views share.
        emitted: how many views of each role reach the trainer, by the role's name; empty where that is not known.
        mask: bool [B, V, G, G'], the patches that masked image modelling hides from the student, none in views of the role "local";
            None where the recipe has no masking.
        image_size: int64 [B, 2], height and width in pixels of the image that the boxes lie in; None where that is not known.
        key: int64 [B, V], from 0 to 2**63 - 1: what a stage of the user's own draws its numbers from
            (:class:`hvs_data.Stage`); None in rows that were not drawn by :func:`hvs_data.sample_views`.
        turn: uint8 [B, V], quarter turns counterclockwise, after the flips, as ``torch.rot90(x, turn, (-2, -1))``. This and the following
            are None where no role of the recipe has the operation.
        vertical_flip: bool [B, V].
        posterize: uint8 [B, V], bits that each value keeps, after solarize; 8 = unchanged.
        erase: int32 [B, V, 4], (top, left, height, width) in pixels of the view at the slot's own size, the part that is erased last, after
            normalisation; height 0 = none.
        resized: int32 [B, V, 2], height and width to which the image is resized before the box is cut out of it, which may reach beyond it
            into black; 0, 0 = it is not.
        dropped: int32 [B, V], channels that become 0 before normalisation: bit c for channel c.
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
    size: tuple[Size, ...]
    spec: RenderSpec = field(default_factory=RenderSpec)
    emitted: Mapping[str, int] = field(default_factory=dict)
    mask: Tensor | None = None
    image_size: Tensor | None = None
    key: Tensor | None = None
    turn: Tensor | None = None
    vertical_flip: Tensor | None = None
    posterize: Tensor | None = None
    erase: Tensor | None = None
    resized: Tensor | None = None
    dropped: Tensor | None = None

    @property
    def batch_size(self) -> int:
        return self.box.shape[0]

    @property
    def num_views(self) -> int:
        return self.box.shape[1]

    @property
    def heights(self) -> tuple[int, ...]:
        """V heights in pixels of the slots' own sizes, by which the blur is scaled."""
        return tuple(height_width(size)[0] for size in self.size)

    @property
    def source_box(self) -> Tensor:
        """[B, V, 4]: what of the source image each view shows, (top, left, height, width) in its pixels: ``box`` or, where any view is one
        of a resized image, float64.

        Raises:
            HvsError: views of resized images whose own size is not known.
        """
        if self.resized is None:
            return self.box
        if self.image_size is None:
            raise HvsError("boxes in resized images expect rows that know the image's size, got image_size=None; write image_size= [B, 2]")
        size_B12 = self.image_size.to(torch.float64)[:, None]
        resized_BV2 = torch.where(self.resized > 0, self.resized.to(torch.float64), size_B12)
        start_BV2, length_BV2 = self.box.to(torch.float64).split(2, dim=-1)
        stop_BV2 = (start_BV2 + length_BV2).minimum(resized_BV2)
        start_BV2 = start_BV2.clamp_min(0)
        return torch.cat([start_BV2, stop_BV2 - start_BV2], dim=-1) * (size_B12 / resized_BV2).repeat(1, 1, 2)

    def tensors(self) -> dict[str, Tensor]:
        """The per-view tensors by name, first axes [B, V]."""
        per_image = ("image_size",)
        return {f.name: value for f in fields(self) if f.name not in per_image and isinstance(value := getattr(self, f.name), Tensor)}

    def slots(self, role: str) -> tuple[int, ...]:
        """The slots that hold a role, in order."""
        return tuple(v for v, name in enumerate(self.role) if name == role)

    def images(self, rows: slice | Sequence[int] | Tensor) -> ViewParams:
        """The rows of some images: indexes the B axis."""
        # a tuple would index the B and V axes at once
        which = list(rows) if isinstance(rows, tuple) else rows
        return self._each(lambda value: value[which], image_size=None if self.image_size is None else self.image_size[which])

    def views(self, slots: Sequence[int]) -> ViewParams:
        """The same slots of every image: indexes the V axis."""
        slots = list(slots)
        return self._each(lambda value: value[:, slots], slots)

    def take(self, slots_BK: Tensor) -> ViewParams:
        """Other slots for each image.

        Args:
            slots_BK: integer [B, K], such as ``batch.selection.slots``. All slots taken into one column must share a size; where their
                roles differ within a column, the column keeps the role of its first image.

        Raises:
            HvsError: slots of another shape, slots that do not exist, or slots of different sizes in one column.
        """
        slots_BK = torch.as_tensor(slots_BK, dtype=torch.int64, device="cpu")
        if slots_BK.ndim != 2 or slots_BK.shape[0] != self.batch_size:
            raise HvsError(f"take needs slots of shape [{self.batch_size}, K], got {tuple(slots_BK.shape)}; pass one row of slots an image")
        if slots_BK.numel() and not 0 <= slots_BK.min() <= slots_BK.max() < self.num_views:
            raise HvsError(
                f"take needs slots from 0 to {self.num_views - 1}, got values from {slots_BK.min()} to {slots_BK.max()}; "
                "pass slots of these rows, such as selection.slots"
            )
        for k in range(slots_BK.shape[1]):
            sizes = list(dict.fromkeys(self.size[slot] for slot in slots_BK[:, k].unique().tolist()))
            if len(sizes) > 1:
                raise HvsError(
                    f"take needs slots of one size in a column, got sizes {sizes} in column {k}; take roles of other sizes apart"
                )
        columns = slots_BK[0].tolist() if self.batch_size else [0] * slots_BK.shape[1]
        image_B1 = torch.arange(self.batch_size)[:, None]
        return self._each(lambda value: value[image_B1, slots_BK], columns)

    def undistorted(self) -> ViewParams:
        """The same crops, flips and turns without colours, blur, erasing and dropped channels."""
        neutral: dict[str, Any] = dict.fromkeys(("brightness", "contrast", "saturation"), torch.ones_like(self.brightness))
        neutral |= {name: torch.zeros_like(getattr(self, name)) for name in ("hue", "gray", "solarize", "blur_sigma")}
        return replace(self, **neutral, posterize=None, erase=None, dropped=None)

    def _each(self, change: Callable[[Tensor], Tensor], slots: Sequence[int] | None = None, **others: Any) -> ViewParams:
        """Rows with every per-view tensor changed, and named and sized after these slots (None: as they are), and other fields set."""
        changed: dict[str, Any] = {name: change(value) for name, value in self.tensors().items()} | others
        if slots is not None:
            role = tuple(self.role[v] for v in slots)
            emitted = {name: min(count, role.count(name)) for name, count in self.emitted.items() if name in role}
            changed |= {"role": role, "size": tuple(self.size[v] for v in slots), "emitted": emitted}
        return replace(self, **changed)

    def _kind(self) -> tuple[Any, ...]:
        """What rows of one recipe have in common."""
        mask_shape = None if self.mask is None else tuple(self.mask.shape[2:])
        known = self.image_size is not None, *sorted(self.tensors())
        return self.role, self.size, self.spec, dict(self.emitted), mask_shape, known

    @staticmethod
    def concatenate(parts: Sequence[ViewParams]) -> ViewParams:
        """Join rows of the same recipe along the image axis.

        Raises:
            HvsError: no parts, or parts whose slots, spec or kinds of rows differ.
        """
        if not parts:
            raise HvsError("concatenate needs the rows of at least one part, got none; keep the rows of an empty batch, they have B = 0")
        for position, part in enumerate(parts):
            expected, arrived = (rows._kind() for rows in (parts[0], part))
            if arrived != expected:
                raise HvsError(
                    "concatenate needs parts of one recipe, with roles, sizes, spec, emitted views, mask grid and what rows hold "
                    f"{expected}, got {arrived} in part {position}"
                )
        names = [*parts[0].tensors(), *([] if parts[0].image_size is None else ["image_size"])]
        joined: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
        return replace(parts[0], **joined)
