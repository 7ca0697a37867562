"""Which candidates are needed at all: told from the step and their rows, before any of them is rendered."""

# Axes: B image, V view slot, G global view, L local view, l chosen local view, K needed view, R role.

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvs_data.errors import SelectionError
from hvs_data.policies.base import FIRST, LEAST_OVERLAP
from hvs_data.rows.features import pair_scores
from hvs_data.rows.layout import Layout, tables_of
from hvs_data.selection.allowed import AllowedPairs, PairRule
from hvs_data.selection.extra import beside, extra_shares, with_extra
from hvs_data.selection.geometry import Weights
from hvs_data.selection.overlap import least_overlap
from hvs_data.types.rows import ViewParams

_TABLE_ENTRIES = 2**15

# Beside FIRST, the first legal pair and the first local views, and LEAST_OVERLAP, those that overlap least: every candidate, and those that
# geometry holds for the hardest.
ALL, PROMISING = "all", "geometry"


@dataclass(frozen=True)
class Narrowing:
    """What a selector needs of the candidates of one step. Two that are equal need the same views of the same rows.

    Attributes:
        layout: of all candidates.
        rule: ALL, FIRST, LEAST_OVERLAP or PROMISING.
        asks: whether the model chooses among the needed views. If not, they are what is chosen.
        count: PROMISING: how many global views, without those that ``extra`` adds.
        weights: PROMISING: of the features of two views' rows.
        easiest: PROMISING: the views of the smallest losses, in place of the largest.
        local_weights: PROMISING, where the model is not asked: of the features of a local view's and a global view's rows, which choose
            the local views beside the pair. None for the first ones.
        compared: with how many of the pair's views, the first ones, a local view is compared.
        allowed: a rule on rows, which the pairs obey that are chosen or that views are kept for.
        extra: how many extra views are handed out beside the pair. Where PROMISING views are scored, those that could be among these are
            needed too; the model is not asked for them.
    """

    layout: Layout
    rule: str
    asks: bool
    count: int = 2
    weights: Weights | None = None
    easiest: bool = False
    allowed: PairRule | None = None
    extra: int = 0
    local_weights: Weights | None = None
    compared: int = 2

    @property
    def partial(self) -> bool:
        """Whether some candidates are not needed, or not in the order of their slots."""
        return self.rule != ALL

    @property
    def columns(self) -> tuple[int, ...]:
        """For each needed view a slot of its role and size, which all images share."""
        if self.rule == ALL:
            return tuple(range(self.layout.views))
        if not self.asks:
            first_1K = torch.tensor([self.layout.first_slots])
            return tuple(with_extra(first_1K, self.layout, self.extra)[0].tolist())
        of_roles = list(zip(self.layout.slots_of_roles, self._quotas(), self._spares(), strict=True))
        kept = [slot for slots, quota, _ in of_roles for slot in slots[:quota]]
        spare = [slot for slots, quota, spare in of_roles for slot in slots[quota : quota + spare]]
        return (*kept, *spare, *self.layout.local_slots)

    def scored_of(self, shown: int) -> list[int]:
        """Which of the needed views the model is asked for, by place.

        Args:
            shown: how many there are, with those that only ``extra`` needs or without.
        """
        kept, locals_ = sum(self._quotas()), len(self.layout.local_slots)
        return [*range(kept), *range(shown - locals_, shown)]

    def slots(self, images: int, params: ViewParams | None) -> Tensor | None:
        """The slots of the needed views: int64 [B, K] on the CPU; None for all candidates.

        Where the model is not asked these are what is handed out, in that order. Of PROMISING views that are scored: the promising ones,
        those that only ``extra`` needs, each role by role and rising, and the local ones.

        Raises:
            SelectionError: no rows, where they decide.
        """
        if self.rule == ALL:
            return None
        allowed = AllowedPairs.of(self.allowed, self.layout, params)
        slots_BK = self._without_extra(images, params, allowed)
        if not self.asks:
            return with_extra(slots_BK if allowed is None else allowed.oriented(slots_BK), self.layout, self.extra)
        kept = sum(self._quotas())
        of_roles = zip(tables_of(self.layout, slots_BK.device).of_roles, self._spares(), strict=True)
        spare = [beside(slots_BK[:, :kept], slots_G, count) for slots_G, count in of_roles]
        return torch.cat([slots_BK[:, :kept], *spare, slots_BK[:, kept:]], dim=1)

    def _without_extra(self, images: int, params: ViewParams | None, allowed: AllowedPairs | None) -> Tensor:
        if self.rule == FIRST:
            return torch.tensor(self.layout.first_slots).expand(images, -1) if allowed is None else allowed.first_slots
        if params is None:
            reads = (
                "prefilter reads the candidates' rows" if self.rule == PROMISING else "policy 'smallest_iou' reads the candidates' boxes"
            )
            raise SelectionError(f"{reads}, got candidates without rows; pass params, such as batch.params")
        if self.rule == LEAST_OVERLAP:
            return least_overlap(self.layout, params, allowed)
        # tables of a few images at a time stay in the processor's cache
        each = max(1, _TABLE_ENTRIES // len(self.layout.global_slots) ** 2)
        parts = [slice(start, start + each) for start in range(0, images, each)] or [slice(None)]
        open_BGG = None if allowed is None else self._of_globals(allowed.choosable).numpy()
        globals_BK = torch.from_numpy(
            np.concatenate([self._promising(params.images(part), None if open_BGG is None else open_BGG[part]) for part in parts])
        )
        if self.local_weights is not None:
            return torch.cat([globals_BK, self._locals_beside(params, globals_BK, self.local_weights)], dim=1)
        locals_ = self.layout.local_slots if self.asks else self.layout.local_slots[: self.layout.emitted_locals]
        return torch.cat([globals_BK, torch.tensor(locals_, dtype=torch.int64).expand(images, -1)], dim=1)

    def _locals_beside(self, params: ViewParams, pair_B2: Tensor, weights: Weights) -> Tensor:
        """The local views that are foretold to add most to the loss beside a pair (where the smallest is sought, least), of equals the
        first: slots, int64 [B, l], rising."""
        slots = self.layout.local_slots
        score_BGL = pair_scores(params.take(pair_B2[:, : self.compared]), weights.weight, params.views(slots))
        score_BL = score_BGL.sum(1) if self.easiest else -score_BGL.sum(1)
        place_Bl = np.sort(score_BL.argsort(axis=1, kind="stable")[:, : self.layout.emitted_locals], axis=1)
        return torch.from_numpy(np.array(slots)[place_Bl])

    def _quotas(self) -> list[int]:
        """How many views of each role are kept: of two roles half each, and the rest of the other's where one has fewer."""
        sizes = [len(slots) for slots in self.layout.slots_of_roles]
        if len(sizes) == 1:
            return [min(self.count, sizes[0])]
        second = min(sizes[1], max(self.count // 2, self.count - sizes[0]))
        return [min(sizes[0], self.count - second), second]

    def _spares(self) -> list[int]:
        """How many more views of each role may be among the extra ones: those are the role's first ones that are not in the pair, so
        that of views that are not kept only the first so many can be."""
        shares = zip(self.layout.slots_of_roles, self._quotas(), extra_shares(self.layout, self.extra), strict=True)
        return [min(share, len(slots) - quota) for slots, quota, share in shares]

    def _of_globals(self, table_BVV: Tensor) -> Tensor:
        slots_G = torch.tensor(self.layout.global_slots)
        return table_BVV[:, slots_G[:, None], slots_G]

    def _promising(self, params: ViewParams, open_BGG: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """Global slots [B, K]: the pair that is foretold to be the hardest, and then, one by one, the view whose pairs with those that
        are there already have the largest sum of exp(foretold loss / temperature). The first of equals.

        The temperature is twice the error of what is foretold: a pair far below the best one is not worth a forward, and one that is not
        far below may well turn out to be the hardest. Where ``open_BGG`` is given, other pairs do not count.
        """
        assert self.weights is not None
        layout, images = self.layout, params.batch_size
        of_globals = params if not layout.local_slots else params.views(layout.global_slots)
        score_BGG = pair_scores(of_globals, self.weights.weight)
        if self.easiest:
            score_BGG = -score_BGG
        tables = tables_of(layout, torch.device("cpu"))
        views = len(layout.global_slots)
        legal_GG = np.zeros((views, views), dtype=bool)
        legal_GG[tuple(tables.place.numpy().T)] = True
        legal_BGG = np.broadcast_to(legal_GG, score_BGG.shape) if open_BGG is None else open_BGG
        role_G = np.array([number for _, number in sorted(_role_of_slot(layout).items())])
        # argmax takes the first of equals, and pairs are in lexicographic order here too
        masked_BGG = np.where(legal_BGG, score_BGG, -np.inf)
        flat_B = masked_BGG.reshape(images, -1).argmax(1)
        chosen = [flat_B // views, flat_B % views]
        image_B = np.arange(images)
        peak_B1 = masked_BGG.reshape(images, -1)[image_B, flat_B][:, None]
        either_BGG = legal_BGG | legal_BGG.transpose(0, 2, 1)
        temperature = np.float32(max(2 * self.weights.spread, 1e-12))
        gain_BG = np.zeros((images, views), dtype=np.float32)
        free_BG = np.ones((images, views), dtype=bool)
        left_BR = np.tile(np.array(self._quotas()), (images, 1))
        for number in range(sum(self._quotas())):
            if number >= 2:
                open_BG = free_BG & (left_BR[:, role_G] > 0)
                chosen.append(np.where(open_BG, gain_BG, -np.inf).argmax(1))
            view_B = chosen[number]
            free_BG[image_B, view_B] = False
            left_BR[image_B, role_G[view_B]] -= 1
            below_BG = np.minimum(score_BGG[image_B, view_B] - peak_B1, 0)  # pairs that are not legal may stand higher
            gain_BG += np.exp(below_BG / temperature) * either_BGG[image_B, view_B]
        place_BK = np.stack(chosen, axis=1)
        if self.asks:  # by role, then by number; a pair that is handed out stays in its order
            place_BK = np.take_along_axis(place_BK, np.lexsort((place_BK, role_G[place_BK]), axis=1), axis=1)
        return np.array(layout.global_slots)[place_BK]


def _role_of_slot(layout: Layout) -> dict[int, int]:
    return {slot: number for number, slots in enumerate(layout.slots_of_roles) for slot in slots}
