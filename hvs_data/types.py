"""The data structures that pass between layers: rows, images, selections, batches."""

# Axes: B image, V view slot, K emitted view, C channel, H W pixels of an image or a view, G G' sides of a grid of patches.

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import combinations
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from hvs_data.arguments.sizes import Size, height_width
from hvs_data.errors import HvsError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# The role of small views in multi-crop: any number of them, of a size of their own, beside the pair.
LOCAL = "local"

# Types of images' values, and which value becomes 1 where a recipe does not say.
FULL_RANGE = {torch.uint8: 255.0, torch.uint16: 65535.0, torch.float32: 1.0}
MAX_CHANNELS = 16

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


class EncodedImage(bytes):
    """An encoded image, and what the dataset that it comes from makes of it when it decodes it.

    Attributes:
        upright: whether it is turned upright as its metadata say.
        mode: Pillow's name of the mode that it is converted to on its way to RGB, such as "L"; None for none.
    """

    upright: bool
    mode: str | None

    def __new__(cls, data: bytes, upright: bool = False, mode: str | None = None) -> EncodedImage:
        image = super().__new__(cls, data)
        image.upright, image.mode = upright, mode
        return image


_IMAGE_TYPES = (*FULL_RANGE, np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))


class ImageBatch(Sequence[Tensor]):
    """Decoded images of any sizes: a sequence of [H, W, C] tensors of one type and number of channels, on one device.

    Args:
        images: arrays or tensors of shape [H, W, C], uint8, uint16 or float32 without NaN, H and W at least 1, C from 1 to 16; three
            channels are RGB. They are kept, not copied, if contiguous (and writable, if arrays).

    Attributes:
        height, width: int64 [B], on the CPU.

    Raises:
        HvsError: an image of another type or shape, or images of different types, channels or devices.
    """

    def __init__(self, images: Sequence[Tensor | np.ndarray]):
        self._images = [self._checked(position, image) for position, image in enumerate(images)]
        devices = {image.device for image in self._images}
        if len(devices) > 1:
            raise HvsError(f"expected images on one device, got {sorted(map(str, devices))}; move them to one of these first")
        shapes = [image.shape for image in self._images]
        kinds = dict.fromkeys((image.dtype, shape[2]) for image, shape in zip(self._images, shapes, strict=True))
        if len(kinds) > 1:
            arrived = ", ".join(f"{dtype} of {channels} channels" for dtype, channels in kinds)
            raise HvsError(f"expected images of one type and number of channels, got {arrived}; convert them to one of these first")
        self.height, self.width = (torch.from_numpy(np.array([shape[axis] for shape in shapes], dtype=np.int64)) for axis in (0, 1))

    @staticmethod
    def _checked(position: int, image: Tensor | np.ndarray) -> Tensor:
        known = isinstance(image, (Tensor, np.ndarray))
        shape = image.shape if known else ()
        if len(shape) != 3 or image.dtype not in _IMAGE_TYPES or shape[2] > MAX_CHANNELS or 0 in shape:
            arrived = f"{image.dtype} {tuple(shape)}" if known else type(image).__name__
            raise HvsError(
                f"image {position}: expected uint8, uint16 or float32 of shape [H, W, C] with H, W >= 1 and C from 1 to {MAX_CHANNELS}, "
                f"got {arrived}; convert it first"
            )
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

    @property
    def channels(self) -> int | None:
        """C; None of no images."""
        return self._images[0].shape[2] if self._images else None

    def __repr__(self) -> str:
        return f"ImageBatch({len(self)} images, {sum(image.numel() for image in self._images) / 2**20:.1f} MiB, {self.device})"


def pairwise_iou(box_BV4: Tensor) -> Tensor:
    """Intersection over union of every two boxes: [..., V, 4] as (top, left, height, width) -> float32 [..., V, V]."""
    top, left, height, width = (box_BV4 if box_BV4.is_floating_point() else box_BV4.to(torch.int64)).unbind(-1)

    def overlap(start: Tensor, length: Tensor) -> Tensor:
        end = start + length
        shared = torch.minimum(end[..., :, None], end[..., None, :]) - torch.maximum(start[..., :, None], start[..., None, :])
        return shared.clamp_min(0)

    intersection = overlap(top, height) * overlap(left, width)
    area = height * width
    union = area[..., :, None] + area[..., None, :] - intersection
    return (intersection.to(torch.float64) / union.to(torch.float64)).to(torch.float32)


@dataclass(frozen=True)
class Selection:
    """Which candidates were chosen, and why.

    Attributes:
        pair: int64 [B, 2], the chosen slots: first < second, or first of the first role, unless the objective's pairs are ordered. Under
            the policy "anchored" the anchor first, or second if they are ordered. Where more than two global views are chosen, the pair of
            the largest loss among them, or the first two if the model was not asked. Where one is chosen, that one twice.
        losses: float32 [B, V, V], the loss of every pair, larger = harder; NaN where the pair is not legal, not allowed or was not
            scored (``prefilter``), and everywhere if the model was not asked. Symmetric, unless the objective's pairs are ordered. With
            local views, the loss of the hardest combination that holds the pair (under policy "easiest" the easiest one), of those that
            were considered; NaN if none is finite. Where more than two global views are chosen, what each pair adds by itself: its loss,
            or of a loss that is a sum over terms those of the pair.
        legal: bool [V, V]: the pairs that could be chosen; upper triangular unless the objective's pairs are ordered.
        non_finite: int64 scalar tensor, losses that were NaN or infinite and so could not be chosen: of legal pairs that the rule allows
            or, of a loss that is a sum over views, terms that some combination holds.
        num_losses: how many losses, or terms, were looked at for that.
        params: the candidates' rows, where they are known.
        slots: int64 [B, K], every chosen slot in the order in which the trainer expects the views: the pair (or the larger set, role by
            role and by number), then extra views, then local views by number.
        policy: the rule by which the views were chosen; "random" in steps that the selector's schedule leaves out, "geometry" where
            ``prefilter=2`` chose by the rows alone.
        scored: whether the model was run to choose.
        step: the selector's step, counted from 0.
        weights: the version of the model's weights that chose (:meth:`hvs_data.HardViewSelector.is_fresh`); None if the model was not
            asked.
        combination_loss: float32 [B], the loss of the chosen views together: with local views, or of more than two global ones, of which
            it is the mean over all pairs; None where a pair alone is chosen.
        allowed: bool [B, V, V]: of the legal pairs, those that the selector's rule allows (``allowed=``) and that hold the anchor of the
            policy "anchored"; None without either.
        none_allowed: how many images have no allowed pair, and so were given their first legal one.
        foretold: float32 [B, V, V], what the rows foretold of each pair's loss, up to a number of each image's own, where the policy chose
            by what was left of it ("unforetold"); None otherwise, and until anything was fitted.
        teacher_outputs: what the teacher gave for the chosen pair, where the selector keeps it, as from one forward of all first
            views followed by all second ones: tensors with first axis 2 B.
        output_std: float32 scalar tensor, how far apart the model's outputs of different images are: about 1 where they point in all
            directions alike, near 0 where the model has collapsed (:class:`hvs_data.forwards.spread.OutputSpread`); None where that
            is not known.
        extra_views: how many views stand between the chosen global views and the local ones, random candidates that the selector's
            ``extra_views`` adds.
        global_views: how many views were chosen together, local and extra ones apart: 2, a pair, unless the recipe emits another number.
    """

    pair: Tensor
    losses: Tensor
    legal: Tensor
    non_finite: Tensor
    params: ViewParams | None = None
    slots: Tensor = field(default=None)  # type: ignore[assignment]
    policy: str = "hardest"
    scored: bool = True
    step: int = 0
    weights: int | None = None
    combination_loss: Tensor | None = None
    teacher_outputs: Any = None
    allowed: Tensor | None = None
    none_allowed: int = 0
    num_losses: int = 0
    output_std: Tensor | None = None
    foretold: Tensor | None = None
    extra_views: int = 0
    global_views: int = 2

    def __post_init__(self) -> None:
        if self.slots is None:
            object.__setattr__(self, "slots", self.pair)

    @property
    def loss(self) -> Tensor:
        """float32 [B]: the loss of what was chosen; NaN if the model was not asked."""
        if self.combination_loss is not None:
            return self.combination_loss
        image_B = torch.arange(self.pair.shape[0], device=self.pair.device)
        return self.losses[image_B, self.pair[:, 0], self.pair[:, 1]]

    @property
    def iou(self) -> Tensor | None:
        """float32 [B]: box overlap of the chosen pair, of more than two global views the mean over all pairs; None if the candidates'
        rows are not known."""
        if self.params is None:
            return None
        return self.mean_of_pairs(pairwise_iou(self.params.source_box))

    def mean_of_pairs(self, table_BVV: Tensor) -> Tensor:
        """The mean over the pairs of the chosen global views of a symmetric table, on its device: floating [B, V, V] -> [B]. Of one view
        its own entry."""
        chosen_BK = self.slots[:, : self.global_views].to(table_BVV.device, non_blocking=table_BVV.is_cuda)
        image_B = torch.arange(len(chosen_BK), device=table_BVV.device)
        chosen = chosen_BK.unbind(1)
        pairs = combinations(chosen if len(chosen) > 1 else 2 * chosen, 2)
        return torch.stack([table_BVV[image_B, first_B, second_B] for first_B, second_B in pairs]).mean(0)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Selection:
        """The same selection with its tensors on another device (rows stay on the CPU)."""
        moved = {f.name: _moved(getattr(self, f.name), device, non_blocking) for f in fields(self) if f.name != "params"}
        return replace(self, **moved)


def _moved(value: Any, device: torch.device | str, non_blocking: bool) -> Any:
    """Tensors, also those in tuples, lists and dicts, on another device; everything else as it is."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=non_blocking)
    if isinstance(value, Mapping):
        return {key: _moved(item, device, non_blocking) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        items = [_moved(item, device, non_blocking) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


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
            labels=_moved(self.labels, device, non_blocking),
            index=self.index.to(device, non_blocking=non_blocking),
            twins=_moved(self.twins, device, non_blocking),
            selection=None if self.selection is None else self.selection.to(device, non_blocking),
        )
