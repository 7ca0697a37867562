"""Which candidates were chosen, and why."""

# Axes: B image, V view slot, K emitted view.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from hvs_data.types.rows import ViewParams


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
        changes = {f.name: moved(getattr(self, f.name), device, non_blocking) for f in fields(self) if f.name != "params"}
        return replace(self, **changes)


def moved(value: Any, device: torch.device | str, non_blocking: bool) -> Any:
    """Tensors, also those in tuples, lists and dicts, on another device; everything else as it is."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=non_blocking)
    if isinstance(value, Mapping):
        return {key: moved(item, device, non_blocking) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        items = [moved(item, device, non_blocking) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value
