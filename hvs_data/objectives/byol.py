"""BYOL (Grill et al. 2020, arXiv 2006.07733): one view's prediction against the other's projection by the target network."""

# Axes: N image of a forward, B image, V view, D embedding.

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hvs_data.kernels.pair_scores.reference import cosine_table
from hvs_data.objectives.base import Owner, unwrapped
from hvs_data.objectives.momentum import MomentumObjective
from hvs_data.objectives.parts import Part, embedded, of_one_shape, take_parts

_KNOWN = (
    {  # lightly's examples
        "encoder": "backbone",
        "projector": "projection_head",
        "predictor": "prediction_head",
        "target_encoder": "backbone_momentum",
        "target_projector": "projection_head_momentum",
    },
    {  # lightly's benchmarks
        "encoder": "backbone",
        "projector": "projection_head",
        "predictor": "prediction_head",
        "target_encoder": "teacher_backbone",
        "target_projector": "teacher_projection_head",
    },
    {  # solo-learn
        "encoder": "backbone",
        "projector": "projector",
        "predictor": "predictor",
        "target_encoder": "momentum_backbone",
        "target_projector": "momentum_projector",
    },
    {  # lucidrains/byol-pytorch
        "encoder": "online_encoder",
        "predictor": "online_predictor",
        "target_encoder": "target_encoder",
    },
    {
        "encoder": "encoder",
        "projector": "projector",
        "predictor": "predictor",
        "target_encoder": "target_encoder",
        "target_projector": "target_projector",
    },
    {"encoder": "encoder", "predictor": "predictor", "target_encoder": "target_encoder"},
)


class BYOL(MomentumObjective):
    """BYOL's loss of views i and j: ``[2 - 2 cos(p_i, z'_j)] + [2 - 2 cos(p_j, z'_i)]``.

    p is the prediction of the online network and z' the projection of the target network, which is called as it is and never
    moved. The mean over a batch is the published loss.

    Args:
        model: a model in which the parts are found by name: those of lightly (backbone, projection_head, prediction_head and
            backbone_momentum, projection_head_momentum or teacher_backbone, teacher_projection_head), of solo-learn (backbone,
            projector, predictor, momentum_backbone, momentum_projector), of byol-pytorch (online_encoder, online_predictor,
            target_encoder), or (encoder, projector, predictor, target_encoder, target_projector) with or without the projectors.
            A DistributedDataParallel wrapper is passed by.
        encoder, projector, predictor, target_encoder, target_projector: the parts, instead of a model; no projector where its
            encoder ends in it. Of an encoder's tuple the first item is taken, as byol-pytorch returns (projection, representation).

    Raises:
        SelectionError: neither a model nor parts, or both; a model without these names; while scoring, outputs that are not tensors
            [N, D] of one shape.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        encoder: Part | None = None,
        projector: Part | None = None,
        predictor: Part | None = None,
        target_encoder: Part | None = None,
        target_projector: Part | None = None,
    ):
        given = {
            "encoder": encoder,
            "projector": projector,
            "predictor": predictor,
            "target_encoder": target_encoder,
            "target_projector": target_projector,
        }
        parts: dict[str, Any] = take_parts("BYOL", model, given, _KNOWN)
        self.encoder, self.projector, self.predictor, self.target_encoder, self.target_projector = parts.values()
        self.owner = Owner(unwrapped(model))

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, S, S] -> predictions and the target network's projections (p, z'), each [N, D]."""
        p = self.predictor(embedded("BYOL", pixels, _first_output(self.encoder), self.projector))
        z = embedded("BYOL", pixels, _first_output(self.target_encoder), self.target_projector)
        return of_one_shape("BYOL", predictions=p, target_projections=z)

    @property
    def teacher(self) -> tuple[Any, Any]:
        """The target network's parts."""
        return self.target_encoder, self.target_projector

    def pair_losses(self, outputs: tuple[Tensor, Tensor]) -> Tensor:
        """(p, z'), each [B, V, D] of any floating type -> float32 [B, V, V], symmetric."""
        cosine_BVV = cosine_table(*outputs)
        return 4 - 2 * (cosine_BVV + cosine_BVV.transpose(1, 2))


def _first_output(encoder: Part) -> Part:
    """An encoder without what it returns beside its projection."""

    def first(pixels: Tensor) -> Any:
        outputs = encoder(pixels)
        return outputs[0] if isinstance(outputs, tuple) else outputs

    return first
