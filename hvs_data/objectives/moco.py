"""MoCo: a query against the key of the same image, v2 with a queue of older keys, v3 with the keys of the batch."""

# Axes: N image of a forward, B image, M image of all processes, V view, D embedding, K key of a queue.

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvs_data.arguments.values import type_name
from hvs_data.errors import SelectionError
from hvs_data.kernels.pair_scores.contrast.blocks import lse_table
from hvs_data.kernels.pair_scores.reference import cosine_table, dot_table
from hvs_data.objectives.base import Owner, unwrapped
from hvs_data.objectives.gather import gathered
from hvs_data.objectives.momentum import MomentumObjective
from hvs_data.objectives.parts import (
    LOSS,
    POSITIVE,
    Number,
    Part,
    checked_number,
    checked_score,
    current_number,
    embedded,
    number_of,
    of_one_shape,
    take_parts,
)
from hvs_data.objectives.queues import Queue, keys_of, queue_reader

_KNOWN_V2 = (
    {"encoder": "encoder_q", "momentum_encoder": "encoder_k"},  # facebookresearch/moco
    {  # lightly's examples
        "encoder": "backbone",
        "projector": "projection_head",
        "momentum_encoder": "backbone_momentum",
        "momentum_projector": "projection_head_momentum",
    },
    {  # lightly's benchmarks
        "encoder": "backbone",
        "projector": "projection_head",
        "momentum_encoder": "key_backbone",
        "momentum_projector": "key_projection_head",
    },
    {  # solo-learn
        "encoder": "backbone",
        "projector": "projector",
        "momentum_encoder": "momentum_backbone",
        "momentum_projector": "momentum_projector",
    },
)
_KNOWN_V3 = (
    {"encoder": "base_encoder", "predictor": "predictor", "momentum_encoder": "momentum_encoder"},  # facebookresearch/moco-v3
    {  # solo-learn
        "encoder": "backbone",
        "projector": "projector",
        "predictor": "predictor",
        "momentum_encoder": "momentum_backbone",
        "momentum_projector": "momentum_projector",
    },
    {  # as lightly names its parts
        "encoder": "backbone",
        "projector": "projection_head",
        "predictor": "prediction_head",
        "momentum_encoder": "backbone_momentum",
        "momentum_projector": "projection_head_momentum",
    },
)


class MoCoV2(MomentumObjective):
    """MoCo v2's loss (arXiv 2003.04297) of query i and key j: cross-entropy of ``[q_i.k_j, q_i.queue] / temperature``.

    q and k are the outputs of encoder and momentum encoder at length 1. The pair is ordered, as the trainer's is: its first view is
    the query, its second the key, and of views of one kind both orders are scored (see :class:`~hvs_data.Objective`). The mean over
    a batch is the published loss, with the queue as it is before the step and the momentum encoder not yet moved. The keys' batch
    is not shuffled over devices.

    Args:
        model: a model in which the parts are found by name: (encoder_q, encoder_k) of the official code; (backbone, projection_head)
            with (backbone_momentum, projection_head_momentum) or (key_backbone, key_projection_head) of lightly; (backbone,
            projector, momentum_backbone, momentum_projector) of solo-learn. A DistributedDataParallel wrapper is passed by.
        encoder, projector, momentum_encoder, momentum_projector: the parts, instead of a model; no projector where its encoder
            ends in it.
        queue: floating [D, K] as in the official code, or [K, D], keys at length 1 (where D = K, [D, K] is meant); lightly's memory
            bank; or a function that returns a tensor. Read at each scoring and never written. By default the model's attribute
            ``queue``. solo-learn's [2, D, K] holds one queue for the keys of each of the two views.
        temperature: a number above 0, or a function that is called at each scoring; by default the model's attribute ``T`` or
            ``temperature``, if that is a number, else the published 0.2.
        symmetric: the mean of both directions, for trainers whose loss is that, such as solo-learn's; pairs are then unordered.
        score: "loss", the trainer's; or "positive", the part of it that the pair makes by itself, ``-q_i.k_j / temperature``, in the
            same units. No queue is needed then, and none is read.

    Raises:
        SelectionError: neither a model nor parts, or both; a model without these names; no queue, or while scoring one of another
            shape; a temperature that is no number above 0; another score; outputs that are not tensors [N, D] of one shape.
    """

    _read_only = ("queue", "temperature")

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        encoder: Part | None = None,
        projector: Part | None = None,
        momentum_encoder: Part | None = None,
        momentum_projector: Part | None = None,
        queue: Queue | None = None,
        temperature: Number | None = None,
        symmetric: bool = False,
        score: str = LOSS,
    ):
        given = {
            "encoder": encoder,
            "projector": projector,
            "momentum_encoder": momentum_encoder,
            "momentum_projector": momentum_projector,
        }
        parts: dict[str, Any] = take_parts("MoCoV2", model, given, _KNOWN_V2)
        self.encoder, self.projector, self.momentum_encoder, self.momentum_projector = parts.values()
        self.owner = Owner(unwrapped(model))
        self.score = checked_score(score)
        self.queue = None if score == POSITIVE else _queue_of(unwrapped(model), queue)
        self.temperature = checked_number("temperature", number_of(model, ("T", "temperature"), temperature, 0.2))
        self.ordered = not symmetric

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, S, S] -> queries and keys (q, k), each [N, D]."""
        q = embedded("MoCoV2", pixels, self.encoder, self.projector)
        return of_one_shape("MoCoV2", queries=q, keys=embedded("MoCoV2", pixels, self.momentum_encoder, self.momentum_projector))

    def pair_losses(self, outputs: tuple[Tensor, Tensor]) -> Tensor:
        """(q, k), each [B, V, D] of any floating type -> float32 [B, V, V]: the first view is the query, or symmetric."""
        temperature = current_number("temperature", self.temperature)
        if self.queue is None:
            alone_BVV = -cosine_table(*outputs) / temperature
            return alone_BVV if self.ordered else (alone_BVV + alone_BVV.transpose(1, 2)) / 2
        q_BVD, k_BVD = (F.normalize(output.to(torch.float32), dim=-1) for output in outputs)
        q_BVD = q_BVD / temperature
        queue_KSD = keys_of(self.queue(), q_BVD.shape[2])
        if self.ordered and queue_KSD.shape[1] > 1:
            raise SelectionError("a queue for each of the two views, [2, D, K], belongs to a symmetric loss; pass symmetric=True")
        positive_BVV = dot_table(q_BVD, k_BVD)
        # cross-entropy of the positive among the negatives, without the cancellation of lse(P, N) - P
        direction_BVVS = F.softplus(lse_table(q_BVD, queue_KSD)[:, :, None] - positive_BVV[..., None])
        if self.ordered:
            return direction_BVVS[..., 0]
        # of two queues the first holds keys of first views, and so meets the queries of second ones
        return (direction_BVVS[..., -1] + direction_BVVS[..., 0].transpose(1, 2)) / 2


class MoCoV3(MomentumObjective):
    """MoCo v3's loss (arXiv 2104.02057) of views i and j: ``2 t {CE(q_i . all k_j / t) + CE(q_j . all k_i / t)}``, t the temperature.

    q is a view's prediction and k its projection by the momentum encoder, both at length 1; CE is the cross-entropy of the image's own
    key among those of all images of the batch, as if every image took the views i and j. The mean over a batch is the published
    loss, with the momentum encoder not yet moved.

    Args:
        model: a model in which the parts are found by name: (base_encoder, predictor, momentum_encoder) of the official code;
            (backbone, projector, predictor, momentum_backbone, momentum_projector) of solo-learn; (backbone, projection_head,
            prediction_head, backbone_momentum, projection_head_momentum). A DistributedDataParallel wrapper is passed by.
        encoder, projector, predictor, momentum_encoder, momentum_projector: the parts, instead of a model; no projector where its
            encoder ends in it.
        temperature: a number above 0, or a function that is called at each scoring; by default the model's attribute ``T`` or
            ``temperature``, if that is a number, else the published 0.2 (of ViTs; the official ResNet-50 has 1).
        gather: take the keys of all processes of torch.distributed, as the official loss does. Every process must then score the
            same number of images at the same time; sizes are not compared.
        score: "loss", the trainer's; or "positive", the part of it that the pair makes by itself, ``-2 (q_i.k_j + q_j.k_i)``, in the
            same units. Other images' keys do not count then, and nothing is gathered.

    Raises:
        SelectionError: neither a model nor parts, or both; a model without these names; a temperature that is no number above 0;
            another score; while scoring, outputs that are not tensors [N, D] of one shape.
    """

    _read_only = ("temperature",)

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        encoder: Part | None = None,
        projector: Part | None = None,
        predictor: Part | None = None,
        momentum_encoder: Part | None = None,
        momentum_projector: Part | None = None,
        temperature: Number | None = None,
        gather: bool = False,
        score: str = LOSS,
    ):
        given = {
            "encoder": encoder,
            "projector": projector,
            "predictor": predictor,
            "momentum_encoder": momentum_encoder,
            "momentum_projector": momentum_projector,
        }
        parts: dict[str, Any] = take_parts("MoCoV3", model, given, _KNOWN_V3)
        self.encoder, self.projector, self.predictor, self.momentum_encoder, self.momentum_projector = parts.values()
        self.owner = Owner(unwrapped(model))
        self.temperature = checked_number("temperature", number_of(model, ("T", "temperature"), temperature, 0.2))
        self.gather = gather
        self.score = checked_score(score)

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, S, S] -> predictions and keys (q, k), each [N, D]."""
        q = self.predictor(embedded("MoCoV3", pixels, self.encoder, self.projector))
        return of_one_shape("MoCoV3", predictions=q, keys=embedded("MoCoV3", pixels, self.momentum_encoder, self.momentum_projector))

    def pair_losses(self, outputs: tuple[Tensor, Tensor]) -> Tensor:
        """(q, k), each [B, V, D] of any floating type -> float32 [B, V, V], symmetric."""
        if self.score == POSITIVE:  # the temperature cancels
            cosine_BVV = cosine_table(*outputs)
            return -2 * (cosine_BVV + cosine_BVV.transpose(1, 2))
        temperature = current_number("temperature", self.temperature)
        q_BVD, k_BVD = (F.normalize(output.to(torch.float32), dim=-1) for output in outputs)
        q_BVD = q_BVD / temperature
        all_MVD, own = gathered(k_BVD) if self.gather else (k_BVD, 0)
        # cross-entropy of the own key among the others, without the cancellation of lse(P, N) - P
        direction_BVV = F.softplus(lse_table(q_BVD, all_MVD, own) - dot_table(q_BVD, k_BVD))
        return 2 * temperature * (direction_BVV + direction_BVV.transpose(1, 2))


def _queue_of(model: Any, queue: Queue | None) -> Callable[[], Any]:
    if queue is not None:
        return queue_reader("MoCoV2", queue, transposed=True)
    if not isinstance(getattr(model, "queue", None), Tensor):
        missing = "no queue= was given" if model is None else f"{type_name(model)} has no tensor `queue`"
        raise SelectionError(
            f"MoCoV2 needs the queue of keys, and {missing}; pass queue=, a tensor, a function that returns one, or lightly's memory bank "
            "such as NTXentLoss(...).memory_bank"
        )
    return partial(getattr, model, "queue")
