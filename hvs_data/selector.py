"""Selects the hardest pair of every image's candidate views: one fused forward, one table of pair losses, an exact argmax."""

# Axes: N image of a forward, B image, V view, P legal pair, C channel, S side of a square view.

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations, permutations, product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hvs_data.errors import SelectionError
from hvs_data.objectives.base import Objective, Outputs, map_outputs, output_tensors
from hvs_data.trace_free import scoring
from hvs_data.types import Selection, ViewParams

BN_MODES = ("fused", "per_view", "running")


class HardViewSelector:
    """Chooses, for every image, the pair of candidate views with the largest loss under the current model.

    Each view passes the model once, without gradient and without leaving a trace in it (:func:`hvs_data.scoring`). Nothing waits
    for the device.

    Which pair: the largest loss among the legal pairs; of equal losses the first pair in order; a NaN or infinite loss is never
    chosen, and an image without a finite one gets its first legal pair. Legal are the pairs (i, j) with i < j, or, where the
    candidates follow two distributions (roles "global1" and "global2"), those of one view each, the first role's slot first. Under an
    objective whose loss depends on the order (``Objective.ordered``), both orders of two views of one kind are legal.

    Args:
        objective: the loss and the modules behind it.
        score_size: side in pixels at which candidates are scored; None scores them as they come. Larger candidates of an explicit
            call are scaled down (antialiased bilinear) just for their scores; a loader renders them at this size to begin with.
        bn: statistics that batch normalisation in training mode uses while scoring. "fused": of all candidates of the batch
            together, as in the published method. "per_view": of one slot at a time, as most training forwards do, at the cost of V
            forwards. "running": the running statistics.
        chunk: the most images in one forward, to bound memory; None for no bound. A forward is split into parts of nearly equal
            size, and under bn="fused" and "per_view" each part is normalised with its own statistics.

    Attributes:
        last: the latest selection, None before the first.

    Raises:
        SelectionError: an argument that means nothing.
    """

    def __init__(self, objective: Objective, *, score_size: int | None = None, bn: str = "fused", chunk: int | None = None):
        if not isinstance(objective, Objective):
            raise SelectionError(
                f"expected an hvs_data.Objective, got {objective if isinstance(objective, type) else type(objective).__name__}; "
                "pass an instance, such as objectives.SimSiam(model), or a subclass of Objective of your own"
            )
        if bn not in BN_MODES:
            raise SelectionError(
                f"bn must be one of {BN_MODES}, got {bn!r}; it says which statistics batch normalisation uses while scoring"
            )
        for name, value in (("score_size", score_size), ("chunk", chunk)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise SelectionError(f"{name} must be a whole number of at least 1, or None, got {value!r}")
        self.objective = objective
        self.score_size = score_size
        self.bn = bn
        self.chunk = chunk
        self.last: Selection | None = None

    def __call__(self, candidates: Sequence[Tensor] | Tensor, params: ViewParams | None = None) -> list[Tensor]:
        """Select, and return the chosen views.

        Args:
            candidates: V tensors [B, 3, S, S], or one tensor [B, V, 3, S, S].
            params: the candidates' rows, if they have any: their roles say which pairs are legal.

        Returns:
            ``[x1, x2]``, each [B, 3, S, S] with the candidates' type, device and memory format. The selection is in ``last``.

        Raises:
            SelectionError: candidates, model outputs or pair losses of a wrong shape.
        """
        views = _checked_views(candidates, params)
        pixels = _fused(views)
        pair_B2 = self._select(pixels, len(views), params).pair.to(pixels.device)
        images = views[0].shape[0]
        row_B2 = pair_B2 * images + torch.arange(images, device=pixels.device)[:, None]
        return [pixels[row_B] for row_B in row_B2.unbind(1)]

    def select(self, candidates: Sequence[Tensor] | Tensor, params: ViewParams | None = None) -> Selection:
        """The selection alone. Arguments and errors as for calling the selector."""
        views = _checked_views(candidates, params)
        return self._select(_fused(views), len(views), params)

    def _select(self, pixels: Tensor, views: int, params: ViewParams | None) -> Selection:
        """pixels: [V * B, 3, S, S], view by view."""
        roles = ("view",) * views if params is None else params.role
        with scoring(*self.objective.modules(), bn="running" if self.bn == "running" else "batch"):
            outputs = self._encode(_scaled_down(pixels, self.score_size), views)
            losses = self.objective.pair_losses(outputs)
            _check_losses(losses, pixels.shape[0] // views, views)
            self.last = _hardest(losses, roles, self.objective.ordered, params)
        return self.last

    def _encode(self, pixels: Tensor, views: int) -> Outputs:
        """[V * B, 3, S, S] -> the objective's outputs with first axes [B, V]."""
        parts = pixels.chunk(views) if self.bn == "per_view" else (pixels,)
        if self.chunk is not None:
            parts = tuple(piece for part in parts for piece in part.tensor_split(-(-len(part) // self.chunk)))
        outputs = [_checked_outputs(self.objective.encode(part), len(part)) for part in parts]

        def by_image(*pieces: Tensor) -> Tensor:
            output = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
            return output.unflatten(0, (views, -1)).transpose(0, 1)

        return map_outputs(by_image, *outputs)


def _checked_views(candidates: Any, params: ViewParams | None) -> list[Tensor]:
    """The candidates as V tensors [B, 3, S, S] that fit each other and their rows."""
    if isinstance(candidates, Tensor) and candidates.ndim == 5:
        views = list(candidates.unbind(1))
    elif isinstance(candidates, (list, tuple)) and all(isinstance(view, Tensor) for view in candidates):
        views = list(candidates)
    else:
        arrived = f"a tensor of shape {tuple(candidates.shape)}" if isinstance(candidates, Tensor) else _described(candidates)
        raise SelectionError(f"expected candidates as V tensors [B, 3, S, S] or one tensor [B, V, 3, S, S], got {arrived}")
    if len(views) < 2:
        raise SelectionError(f"expected at least 2 candidate views of an image, got {len(views)}; draw more with the recipe's candidates=")
    _check_roles(params, len(views))
    kinds = {(tuple(view.shape), view.dtype, view.device) for view in views}
    if len(kinds) > 1 or views[0].ndim != 4:
        arrived = ", ".join(f"{view.dtype} {list(view.shape)} on {view.device}" for view in views)
        raise SelectionError(f"expected candidates of one shape [B, 3, S, S], type and device, got {arrived}")
    if 0 in views[0].shape:
        raise SelectionError(
            f"expected at least one image and one pixel, got candidates of shape {list(views[0].shape)}; skip empty batches"
        )
    if params is not None and params.batch_size != views[0].shape[0]:
        raise SelectionError(
            f"expected the rows of the candidates' {views[0].shape[0]} images, got rows of {params.batch_size}; pass the batch's own rows"
        )
    return views


def _described(candidates: Any) -> str:
    if isinstance(candidates, (list, tuple)):
        return f"a {type(candidates).__name__} of {', '.join(sorted({type(view).__name__ for view in candidates}))}"
    return type(candidates).__name__


def _check_roles(params: ViewParams | None, views: int) -> None:
    if params is None:
        return
    if params.num_views != views:
        raise SelectionError(
            f"expected one row for each of the {views} candidate views, got rows of {params.num_views}; pass the candidates' own rows"
        )
    _legal_slots(params.role, False)


@lru_cache(maxsize=64)
def _legal_slots(roles: tuple[str, ...], ordered: bool) -> tuple[tuple[int, int], ...]:
    """The pairs that may be chosen, in lexicographic order."""
    if "local" in roles:
        raise SelectionError(
            f"multi-crop selection is not available in this version, got candidates of the role 'local' among {sorted(set(roles))}; "
            "pass the global views alone, such as params.views(slots)"
        )
    names = tuple(dict.fromkeys(roles))
    slots = [[slot for slot, role in enumerate(roles) if role == name] for name in names]
    if len(names) == 1:
        return tuple(permutations(slots[0], 2) if ordered else combinations(slots[0], 2))
    if len(names) == 2:
        return tuple(product(slots[0], slots[1]))
    raise SelectionError(f"expected candidates of one role, or of two that a pair takes one view of each, got the roles {list(names)}")


@lru_cache(maxsize=64)
def _legal_pairs(roles: tuple[str, ...], ordered: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """int64 [P, 2] and bool [V, V]. Made once, as copying them to the device would wait for it."""
    with torch.inference_mode(False):
        pair_P2 = torch.tensor(_legal_slots(roles, ordered), dtype=torch.int64, device=device)
        legal_VV = torch.zeros(len(roles), len(roles), dtype=torch.bool, device=device)
        legal_VV[pair_P2[:, 0], pair_P2[:, 1]] = True
    return pair_P2, legal_VV


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


def _scaled_down(pixels: Tensor, size: int | None) -> Tensor:
    """[N, 3, H, W] with no side longer than ``size``, of the same type."""
    if size is None or max(pixels.shape[-2:]) <= size:
        return pixels
    target = [min(side, size) for side in pixels.shape[-2:]]
    scaled = F.interpolate(pixels.float(), size=target, mode="bilinear", antialias=True)
    return (scaled if pixels.is_floating_point() else scaled.round()).to(pixels.dtype)


def _checked_outputs(outputs: Outputs, images: int) -> Outputs:
    tensors = list(output_tensors(map_outputs(lambda output: output, outputs)))
    if not tensors or any(tensor.ndim == 0 or tensor.shape[0] != images for tensor in tensors):
        raise SelectionError(
            f"expected encode to return tensors with first axis N = {images}, one row for each image that it was given, "
            f"got {[list(tensor.shape) for tensor in tensors] or 'no tensor'}"
        )
    return outputs


def _check_losses(losses: Any, images: int, views: int) -> None:
    if not isinstance(losses, Tensor) or losses.shape != (images, views, views) or losses.is_complex():
        arrived = f"{losses.dtype} {list(losses.shape)}" if isinstance(losses, Tensor) else type(losses).__name__
        raise SelectionError(
            f"expected pair_losses to return a float32 tensor [B, V, V] = [{images}, {views}, {views}], got {arrived}; "
            "return one loss for each two views of an image, not their mean"
        )


def _hardest(losses: Tensor, roles: tuple[str, ...], ordered: bool, params: ViewParams | None) -> Selection:
    """The largest finite loss among the legal pairs of each image; the first legal pair where there is none."""
    pair_P2, legal_VV = _legal_pairs(roles, ordered, losses.device)
    first_P, second_P = pair_P2.unbind(1)
    loss_BP = losses.detach()[:, first_P, second_P].to(torch.float32)
    finite_BP = loss_BP.isfinite()
    # argmax takes the first of equals, and so the first pair of a row that is -inf throughout
    best_B = loss_BP.masked_fill(~finite_BP, -torch.inf).argmax(1)
    table_BVV = torch.full_like(losses, torch.nan, dtype=torch.float32)
    table_BVV[:, first_P, second_P] = loss_BP
    if not ordered:
        table_BVV[:, second_P, first_P] = loss_BP
    return Selection(pair=pair_P2[best_B], losses=table_BVV, legal=legal_VV, non_finite=(~finite_BP).sum(), params=params)
