"""What is told of one selection: numbers of each image, from copies of it on the host."""

# Axes: B image, V view slot, K chosen view, P pair of slots whatever their order, Q legal pair in its order, G slot in legal pairs.

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hvs_data.selection.geometry import Geometry, HostCopy
from hvs_data.types.rows import LOCAL, ViewParams
from hvs_data.types.selection import Selection, pairwise_iou

# Losses of a selection that are fitted to their rows, those of its first images: the fit takes the longest of all that is done here.
FITTED_LOSSES = 512


class Told(NamedTuple):
    """A sum of numbers.

    Attributes:
        name: of the number that is their mean.
        total: the sum.
        terms: of how many.
    """

    name: str
    total: float
    terms: int


class Observed:
    """A selection on its way to the host. Nothing waits for it, and nothing of it stays on the device.

    Args:
        selection: on any device.
    """

    def __init__(self, selection: Selection):
        self.step = selection.step
        self.scored = selection.scored
        self._params = selection.params
        self._none_allowed, self._num_losses = selection.none_allowed, selection.num_losses
        self._slots, self._global_views = HostCopy(selection.slots), selection.global_views
        self._legal = HostCopy(selection.legal)
        self._allowed = None if selection.allowed is None else HostCopy(selection.allowed)
        self._losses = self._loss = self._non_finite = self._output_std = None
        if selection.scored:
            self._losses, self._loss = HostCopy(selection.losses), HostCopy(selection.loss)
            self._non_finite = HostCopy(selection.non_finite)
        if selection.output_std is not None:
            self._output_std = HostCopy(selection.output_std)

    @property
    def arrived(self) -> bool:
        """Whether all of it is there; waits for nothing."""
        copies = [value for value in vars(self).values() if isinstance(value, HostCopy)]
        return all(copied.arrived for copied in copies)

    def told(self, geometry: Geometry, number: int) -> Iterator[Told]:
        """All numbers that this selection tells. Waits until it is there.

        Args:
            geometry: the fit of losses to rows, which goes on with this selection's.
            number: the selection's, of those that the fit has seen.
        """
        legal_VV = self._legal.numpy() > 0
        slots_BK = self._slots.numpy().astype(np.int64)
        yield Told("scored", float(self.scored), 1)
        if self._allowed is not None:
            yield Told("none_allowed", self._none_allowed, len(slots_BK))
        if self._params is not None:
            if self._global_views > 1:
                first_P, second_P = np.nonzero(np.triu(legal_VV | legal_VV.T, 1))
                yield from self._overlaps(first_P, second_P, slots_BK, legal_VV)
            yield from self._areas(np.nonzero((legal_VV | legal_VV.T).any(0))[0], slots_BK)
        if self._losses is not None:
            yield from self._hardness(legal_VV, geometry, number)
        if self._output_std is not None:
            yield from _means("output_std", self._output_std.numpy().reshape(1))

    def _overlaps(
        self, first_P: NDArray[np.int64], second_P: NDArray[np.int64], slots_BK: NDArray[np.int64], legal_VV: NDArray[np.bool_]
    ) -> Iterator[Told]:
        assert self._params is not None
        slots_G, place_2P = np.unique([first_P, second_P], return_inverse=True)
        iou_BGG = pairwise_iou(self._params.source_box[:, slots_G]).numpy().astype(np.float64)
        iou_BP = iou_BGG[:, *place_2P.reshape(2, -1)]
        chosen_BV = np.zeros((len(slots_BK), len(legal_VV)), dtype=bool)
        np.put_along_axis(chosen_BV, slots_BK[:, : self._global_views], True, 1)
        chosen_BP = chosen_BV[:, first_P] & chosen_BV[:, second_P]
        open_BVV = np.broadcast_to(legal_VV, (len(slots_BK), *legal_VV.shape)) if self._allowed is None else self._allowed.numpy() > 0
        # an image without an allowed pair has one all the same
        open_BP = open_BVV[:, first_P, second_P] | open_BVV[:, second_P, first_P] | chosen_BP
        yield from _means("iou_chosen", iou_BP[chosen_BP])
        yield from _means("disjoint_chosen", iou_BP[chosen_BP] == 0)
        pairs_B = chosen_BP.sum(1)
        other_BP, choice_B = open_BP & ~chosen_BP, open_BP.sum(1) > pairs_B
        yield from _means("iou_other", _mean_of(iou_BP, other_BP)[choice_B])
        yield from _means("disjoint_other", _mean_of(iou_BP == 0, other_BP)[choice_B])
        smallest_BP = open_BP & (iou_BP == np.where(open_BP, iou_BP, np.inf).min(1, keepdims=True))
        yield from _means("smallest_iou", (smallest_BP & chosen_BP).any(1)[choice_B])
        yield from _means("smallest_iou_by_chance", np.minimum(pairs_B * _mean_of(smallest_BP, open_BP), 1)[choice_B])

    def _areas(self, slots_G: NDArray[np.int64], slots_BK: NDArray[np.int64]) -> Iterator[Told]:
        assert self._params is not None
        if self._params.image_size is None:
            return
        height_BV, width_BV = self._params.source_box[..., 2:].numpy().astype(np.float64).transpose(2, 0, 1)
        area_BV = height_BV * width_BV / self._params.image_size.numpy().astype(np.float64).prod(1)[:, None]
        chosen_BV = np.zeros(area_BV.shape, dtype=bool)
        np.put_along_axis(chosen_BV, slots_BK, True, 1)
        locals_L = np.array(self._params.slots(LOCAL), dtype=np.int64)
        for name, slots in (("area", slots_G), ("local_area", locals_L)):
            yield from _means(f"{name}_chosen", area_BV[:, slots][chosen_BV[:, slots]])
            yield from _means(f"{name}_other", area_BV[:, slots][~chosen_BV[:, slots]])

    def _hardness(self, legal_VV: NDArray[np.bool_], geometry: Geometry, number: int) -> Iterator[Told]:
        assert self._losses is not None and self._loss is not None and self._non_finite is not None
        pair_Q2 = np.argwhere(legal_VV)
        loss_BQ, loss_B = self._losses.numpy()[:, *pair_Q2.T], self._loss.numpy()
        finite_BQ, fit_B = np.isfinite(loss_BQ), np.isfinite(loss_B)
        mean_B = _mean_of(np.where(finite_BQ, loss_BQ, 0), finite_BQ)
        yield Told("non_finite_share", float(self._non_finite.numpy()), self._num_losses)
        yield from _means("unfit", finite_BQ.sum(1) == 0)
        yield from _means("loss_chosen", loss_B[fit_B])
        yield from _means("loss_mean", mean_B[fit_B])
        if self._params is not None:
            _fit(geometry, number, self._params, pair_Q2, np.where(finite_BQ, loss_BQ, np.nan))


def _fit(geometry: Geometry, number: int, params: ViewParams, pair_Q2: NDArray[np.int64], loss_BQ: NDArray[np.float64]) -> None:
    slots_G, place_Q2 = np.unique(pair_Q2, return_inverse=True)
    images = -(-FITTED_LOSSES // len(pair_Q2))
    rows = params.images(slice(images)).views(slots_G.tolist())
    geometry.observe(number, rows, place_Q2.reshape(-1, 2).tolist(), torch.from_numpy(loss_BQ[:images]))
    geometry.at(number + geometry.delay)  # takes it in


def _means(name: str, values: NDArray[np.float64] | NDArray[np.bool_]) -> Iterator[Told]:
    """Finite values' part in a mean."""
    finite = values[np.isfinite(values)]
    yield Told(name, float(finite.sum()), finite.size)


def _mean_of(value_BP: NDArray[np.float64] | NDArray[np.bool_], counted_BP: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean over what counts of each image; 0 where nothing does."""
    return (value_BP * counted_BP).sum(1) / np.maximum(counted_BP.sum(1), 1)
