"""NNCLR (Dwibedi et al. 2021, arXiv 2104.14548): the nearest neighbour of a view, out of a queue, against the views of all images."""

# Axes: N image of a forward, B image, V view, D embedding, K embedding of the queue.

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvs_data.arguments.values import type_name
from hvs_data.errors import SelectionError
from hvs_data.kernels.pair_scores.contrast.blocks import lse_table
from hvs_data.kernels.pair_scores.product import unrounded_product
from hvs_data.kernels.pair_scores.reference import dot_table
from hvs_data.objectives.base import Objective, Owner, unwrapped
from hvs_data.objectives.gather import gathered
from hvs_data.objectives.parts import Number, Part, checked_number, current_number, embedded, number_of, of_one_shape, take_parts
from hvs_data.objectives.queues import Queue, keys_of, queue_reader

_KNOWN = (
    {"encoder": "backbone", "projector": "projection_head", "predictor": "prediction_head"},  # lightly
    {"encoder": "backbone", "projector": "projector", "predictor": "predictor"},  # solo-learn
    {"encoder": "encoder", "projector": "projector", "predictor": "predictor"},
)
NEGATIVES = ("predictions", "all")
# Similarities to the queue that exist at a time.
BLOCK = 2**22


class NNCLR(Objective):
    """NNCLR's loss of views i and j: the mean of ``L(nn_i, p_j)`` and ``L(nn_j, p_i)``.

    nn_i is the embedding of the queue that is nearest to the projection of view i, and p_j the prediction of view j, both at length 1.
    ``L(a, b)`` is the cross-entropy of ``<a, b> / temperature`` of the image itself among those of a and the predictions b of all images,
    as if every image took the views i and j. The mean over a batch is the published loss, with the queue as it is before the step.

    Args:
        model: a model in which the parts are found by name: (backbone, projection_head, prediction_head), (backbone, projector, predictor)
            or (encoder, projector, predictor). A DistributedDataParallel wrapper is passed by.
        encoder, projector, predictor: the parts, instead of a model; no projector where the encoder ends in it.
        queue: floating [K, D] or [D, K] (where D = K, [D, K] is meant); lightly's ``NNMemoryBankModule``; or a function that returns a
            tensor. Read at each scoring and never written. By default the model's attribute ``queue``.
        temperature: a number above 0, or a function that is called at each scoring; by default the model's attribute ``temperature``, if
            that is a number, else the published 0.1.
        negatives: "predictions", the published loss, as solo-learn has it; or "all": nearest neighbours and predictions stand in one
            NT-Xent, as in lightly's example.
        gather: take the others' embeddings from all processes of torch.distributed. Every process must then score the same number of
            images at the same time; sizes are not compared.

    Raises:
        SelectionError: neither a model nor parts, or both; a model without these names; no queue, or while scoring one of another shape;
            a temperature that is no number above 0; other negatives; outputs that are not tensors [N, D] of one shape.
    """

    _read_only = ("queue", "temperature")

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        encoder: Part | None = None,
        projector: Part | None = None,
        predictor: Part | None = None,
        queue: Queue | None = None,
        temperature: Number | None = None,
        negatives: str = "predictions",
        gather: bool = False,
    ):
        given = {"encoder": encoder, "projector": projector, "predictor": predictor}
        parts: dict[str, Any] = take_parts("NNCLR", model, given, _KNOWN)
        self.encoder, self.projector, self.predictor = parts.values()
        self.owner = Owner(unwrapped(model))
        self.queue = _queue_of(unwrapped(model), queue)
        self.temperature = checked_number("temperature", number_of(model, ("temperature",), temperature, 0.1))
        if negatives not in NEGATIVES:
            raise SelectionError(f"negatives must be one of {NEGATIVES}, got {negatives!r}; it says what an image is compared with")
        self.negatives = negatives
        self.gather = gather

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, S, S] -> projections and predictions (z, p), each [N, D]."""
        z = embedded("NNCLR", pixels, self.encoder, self.projector)
        return of_one_shape("NNCLR", projections=z, predictions=self.predictor(z))

    def pair_losses(self, outputs: tuple[Tensor, Tensor]) -> Tensor:
        """(z, p), each [B, V, D] of any floating type -> float32 [B, V, V], symmetric."""
        temperature = current_number("temperature", self.temperature)
        z_BVD, p_BVD = (F.normalize(output.to(torch.float32), dim=-1) for output in outputs)
        nearest_BVD = _nearest(z_BVD, keys_of(self.queue(), z_BVD.shape[2])[:, 0])
        positive_BVV = dot_table(nearest_BVD / temperature, p_BVD)
        against_BVV = self._others(nearest_BVD / temperature, p_BVD)
        if self.negatives == "predictions":
            direction_BVV = F.softplus(against_BVV - positive_BVV)
        else:
            own_BV = self._others(nearest_BVD / temperature, nearest_BVD).diagonal(dim1=1, dim2=2)
            back_BVV = self._others(p_BVD / temperature, nearest_BVD).transpose(1, 2)
            back_own_BV = self._others(p_BVD / temperature, p_BVD).diagonal(dim1=1, dim2=2)
            there_BVV = F.softplus(torch.logaddexp(against_BVV, own_BV[:, :, None]) - positive_BVV)
            back_BVV = F.softplus(torch.logaddexp(back_BVV, back_own_BV[:, None]) - positive_BVV)
            direction_BVV = (there_BVV + back_BVV) / 2
        return (direction_BVV + direction_BVV.transpose(1, 2)) / 2

    def _others(self, a_BVD: Tensor, b_BVD: Tensor) -> Tensor:
        """Log-sum-exp over all images but the own: [B, V, V], the first view's of a, the second's of b."""
        all_MVD, own = gathered(b_BVD) if self.gather else (b_BVD, 0)
        return lse_table(a_BVD, all_MVD, own)


def _nearest(z_BVD: Tensor, queue_KD: Tensor) -> Tensor:
    """For every view the embedding of the queue with the largest cosine, at length 1: [B, V, D]."""
    unit_KD = F.normalize(queue_KD.to(z_BVD.device, torch.float32), dim=-1)
    rows = max(1, BLOCK // len(unit_KD))
    place_R = torch.cat([unrounded_product(part, unit_KD).argmax(1) for part in z_BVD.flatten(0, 1).split(rows)])
    return unit_KD[place_R].view_as(z_BVD)


def _queue_of(model: Any, queue: Queue | None) -> Any:
    if queue is not None:
        return queue_reader("NNCLR", queue, transposed=True)
    if not isinstance(getattr(model, "queue", None), Tensor):
        missing = "no queue= was given" if model is None else f"{type_name(model)} has no tensor `queue`"
        raise SelectionError(
            f"NNCLR needs the queue of embeddings, and {missing}; pass queue=, a tensor, a function that returns one, or lightly's memory "
            "bank, NNMemoryBankModule(...)"
        )
    return partial(getattr, model, "queue")
