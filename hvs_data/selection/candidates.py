"""Candidates as a selector was given them: all of an image's, or those of them that are needed."""

# Axes: B image, V view slot, K needed view.

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvs_data.arguments.sizes import Size, size_of
from hvs_data.arguments.values import type_name
from hvs_data.errors import SelectionError
from hvs_data.forwards.groups import Group, checked_views, groups_of
from hvs_data.recipes.spec import Recipe
from hvs_data.rows.layout import Layout, tables_of
from hvs_data.types.rows import ViewParams

# The layout of so many views from their rows or their recipe, as an objective wants it.
LayoutOf: TypeAlias = Callable[[int, ViewParams | Recipe | None], Layout]


@dataclass(frozen=True)
class Candidates:
    """Candidates as they were given.

    Attributes:
        groups: the views that there are, in groups of one size.
        layout, rows: of these views.
        all_layout, all_rows: of all candidates.
        slots: int64 [B, K], which of all candidates these views are; None if they are all.
    """

    groups: list[Group]
    layout: Layout
    rows: ViewParams | None
    all_layout: Layout
    all_rows: ViewParams | None
    slots: Tensor | None = None

    @staticmethod
    def of(
        candidates: Sequence[Tensor] | Tensor, params: ViewParams | Recipe | None, slots: Tensor | None, layout_of: LayoutOf
    ) -> Candidates:
        """Candidates as a selector's caller gives them.

        Args:
            candidates, params, slots: see :meth:`hvs_data.HardViewSelector.__call__`.
            layout_of: of the selector's.

        Raises:
            SelectionError: views of a wrong shape, or slots without rows.
        """
        rows = params if isinstance(params, ViewParams) else None
        if slots is None:
            views = checked_views(candidates, rows)
            layout = layout_of(len(views), params)
            return Candidates(groups_of(views, layout), layout, rows, layout, rows)
        if rows is None:
            raise SelectionError(f"slots= says which of the candidates' rows are shown, got {type_name(params)} for params; pass the rows")
        shown = rows.take(slots)
        views = checked_views(candidates, shown)
        layout = layout_of(len(views), shown)
        return Candidates(groups_of(views, layout), layout, shown, layout_of(rows.num_views, rows), rows, slots)

    @property
    def images(self) -> int:
        return self.all_rows.batch_size if self.all_rows is not None else self.groups[0].views[0].shape[0]

    @property
    def image_key(self) -> NDArray[np.int64] | None:
        """int64 [B], what tells images apart in any batch: the key of their first view; None without one."""
        return None if self.all_rows is None or self.all_rows.key is None else self.all_rows.key[:, 0].numpy()

    @property
    def own_sizes(self) -> list[Size]:
        """The size of each group's views as the trainer gets them. A loader renders candidates at the size at which they are scored, so
        that it is their rows which tell."""
        if self.rows is None:
            return self.given_sizes
        return [self.rows.size[group.slots[0]] for group in self.groups]

    @property
    def given_sizes(self) -> list[Size]:
        """The size of each group's views as they were given."""
        return [size_of(*group.views[0].shape[-2:]) for group in self.groups]

    def places(self, slots_BK: Tensor) -> Tensor:
        """Where the views of these slots, of all candidates, are among the global or the local ones that there are: int64 [B, K]."""
        device = slots_BK.device
        if self.slots is not None:
            # which of the views that are there shows each of the slots
            shown_BK = self.slots.to(device, non_blocking=True)
            slots_BK = (shown_BK[:, None] == slots_BK[:, :, None]).to(torch.uint8).argmax(2)
        return tables_of(self.layout, device).position[slots_BK]

    def show(self, slots_BK: Tensor) -> list[Tensor]:
        """The views of these slots, of all candidates, local ones last: K tensors [B, 3, S, S]."""
        place_BK = self.places(slots_BK)
        globals_ = slots_BK.shape[1] - self.all_layout.emitted_locals
        pairs_and_locals = zip(self.groups, (place_BK[:, :globals_], place_BK[:, globals_:]), strict=False)
        return [view for group, place in pairs_and_locals for view in group.pick(place)]


def of_shown(given: Candidates, places: Sequence[int], layout_of: LayoutOf) -> Candidates:
    """Some of the views that there are, by place, the same for all images, in rising order of groups."""
    assert given.slots is not None and given.rows is not None
    if len(places) == given.rows.num_views:
        return given
    rows = given.rows.views(places)
    layout = layout_of(rows.num_views, rows)
    view_of = {slot: view for group in given.groups for slot, view in zip(group.slots, group.views, strict=True)}
    groups = groups_of([view_of[place] for place in places], layout)
    return Candidates(groups, layout, rows, given.all_layout, given.all_rows, given.slots[:, list(places)])


def narrowed(given: Candidates, slots_BK: Tensor | None, device: torch.device, layout_of: LayoutOf) -> Candidates:
    """Some slots of all candidates, other ones for each image."""
    assert slots_BK is not None and given.rows is not None
    rows = given.rows.take(slots_BK)
    layout = layout_of(rows.num_views, rows)
    globals_ = len(layout.global_slots)
    place_BK = tables_of(given.layout, device).position[slots_BK.to(device, non_blocking=True)]
    parts = place_BK[:, :globals_], place_BK[:, globals_:]
    views = [view for group, part in zip(given.groups, parts, strict=False) for view in group.pick(part)]
    return Candidates(groups_of(views, layout), layout, rows, given.layout, given.rows, slots_BK)
