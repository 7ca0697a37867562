"""An image's candidate views as tensors: checked, joined for a forward, scaled down, picked by slot."""

# Axes: N image of a forward, B image, V view, K chosen view, C channel, H W pixels.

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hvs_data.arguments.sizes import Size, height_width
from hvs_data.errors import SelectionError
from hvs_data.rows.layout import Layout
from hvs_data.types.rows import ViewParams


class Group:
    """The candidates that share a size, and so a forward.

    Args:
        slots: their numbers among all candidates.
        views: one [B, C, H, W] tensor a slot.
    """

    def __init__(self, slots: Sequence[int], views: list[Tensor]):
        self.slots = tuple(slots)
        self.views = views

    @cached_property
    def fused(self) -> Tensor:
        """[V * B, C, H, W], view by view."""
        return _fused(self.views)

    def images(self, part: slice) -> Tensor:
        """The same for some images."""
        if part == slice(0, self.views[0].shape[0]):
            return self.fused
        return torch.cat([view[part] for view in self.views])

    def pick(self, place_BK: Tensor) -> list[Tensor]:
        """The views at these places among ``slots``, other ones for each image: K tensors [B, C, H, W]."""
        images = self.views[0].shape[0]
        row_BK = place_BK * images + torch.arange(images, device=place_BK.device)[:, None]
        return [self.fused[row_B] for row_B in row_BK.unbind(1)]


def checked_views(candidates: Any, params: ViewParams | None) -> list[Tensor]:
    """The candidates as V tensors [B, C, H, W] of one type and device that fit their rows.

    Raises:
        SelectionError: something else.
    """
    if isinstance(candidates, Tensor) and candidates.ndim == 5:
        views = list(candidates.unbind(1))
    elif isinstance(candidates, (list, tuple)) and all(isinstance(view, Tensor) for view in candidates):
        views = list(candidates)
    else:
        arrived = f"a tensor of shape {tuple(candidates.shape)}" if isinstance(candidates, Tensor) else _described(candidates)
        raise SelectionError(f"expected candidates as V tensors [B, C, H, W] or one tensor [B, V, C, H, W], got {arrived}")
    if len(views) < 2:
        raise SelectionError(f"expected at least 2 candidate views of an image, got {len(views)}; draw more with the recipe's candidates=")
    if any(view.ndim != 4 for view in views) or len({(view.shape[0], view.dtype, view.device) for view in views}) > 1:
        _refuse_shapes(views)
    if any(0 in view.shape for view in views):
        raise SelectionError(
            f"expected at least one image and one pixel, got candidates of shape {list(views[0].shape)}; skip empty batches"
        )
    if params is not None and params.num_views == len(views) and params.batch_size != views[0].shape[0]:
        raise SelectionError(
            f"expected the rows of the candidates' {views[0].shape[0]} images, got rows of {params.batch_size}; pass the batch's own rows"
        )
    return views


def groups_of(views: list[Tensor], layout: Layout) -> list[Group]:
    """The global candidates, and the local ones if there are any.

    Raises:
        SelectionError: views of several shapes in one group.
    """
    groups = [Group(slots, [views[slot] for slot in slots]) for slots in (layout.global_slots, layout.local_slots) if slots]
    if any(len({tuple(view.shape) for view in group.views}) > 1 for group in groups):
        _refuse_shapes(views)
    return groups


def _refuse_shapes(views: list[Tensor]) -> None:
    arrived = ", ".join(f"{view.dtype} {list(view.shape)} on {view.device}" for view in views)
    raise SelectionError(
        f"expected candidates of one shape [B, C, H, W], type and device, of which only those of the role 'local' in their rows may have "
        f"a size of their own, got {arrived}"
    )


def _described(candidates: Any) -> str:
    if isinstance(candidates, (list, tuple)):
        return f"a {type(candidates).__name__} of {', '.join(sorted({type(view).__name__ for view in candidates}))}"
    return type(candidates).__name__


def _fused(views: list[Tensor]) -> Tensor:
    """V tensors [B, ...] -> [V * B, ...], without a copy where they lie one behind the other in memory."""
    first = views[0]
    length = first.stride(0) * first.shape[0]
    adjacent = all(
        view.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        and view.stride() == first.stride()
        and view.storage_offset() == first.storage_offset() + slot * length
        for slot, view in enumerate(views)
    )
    if not adjacent:
        return torch.cat(views)
    return first.as_strided((len(views) * first.shape[0], *first.shape[1:]), first.stride(), first.storage_offset())


def scaled_down(pixels: Tensor, size: Size | None) -> Tensor:
    """[N, C, H, W] with no side longer than that of ``size``, of the same type."""
    given = list(pixels.shape[-2:])
    target = given if size is None else [min(sides) for sides in zip(given, height_width(size), strict=True)]
    if target == given:
        return pixels
    scaled = F.interpolate(pixels.float(), size=target, mode="bilinear", antialias=True)
    return (scaled if pixels.is_floating_point() else scaled.round()).to(pixels.dtype)
