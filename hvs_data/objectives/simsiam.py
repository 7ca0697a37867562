"""SimSiam (Chen & He 2021, arXiv 2011.10566): negative cosine between one view's prediction and the other's projection."""

# Axes: N image of a forward, B image, V view, D embedding.

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hvs_data.errors import SelectionError
from hvs_data.kernels.pair_scores.reference import cosine_table
from hvs_data.objectives.base import Objective, Owner, unwrapped
from hvs_data.objectives.parts import Part, attributes, describe, embedded, take_parts

# The official model, whose projector is the encoder's last layer, comes after those that hold a projector of their own.
_KNOWN = (
    {"encoder": "backbone", "projector": "projection_head", "predictor": "prediction_head"},  # lightly
    {"encoder": "backbone", "projector": "projector", "predictor": "predictor"},  # solo-learn
    {"encoder": "encoder", "projector": "projector", "predictor": "predictor"},
    {"encoder": "encoder", "predictor": "predictor"},  # facebookresearch/simsiam
)


class SimSiam(Objective):
    """SimSiam's loss of views i and j: ``-1/2 [cos(p_i, z_j) + cos(p_j, z_i)]``.

    z is the projection of a view and p the prediction made from it. The mean over a batch is the published loss
    (github.com/facebookresearch/simsiam).

    Args:
        model: a model in which the parts are found by name: (backbone, projection_head, prediction_head),
            (backbone, projector, predictor), (encoder, projector, predictor) or (encoder, predictor). A
            DistributedDataParallel wrapper is passed by. A model without these names is called as ``model(pixels)`` with pixels
            [N, 3, S, S] and must return ``(p, z)``, each [N, D]. The parts are taken when the objective is made.
        encoder, projector, predictor: the parts, instead of a model; ``projector=None`` where the encoder ends in it.

    Raises:
        SelectionError: neither a model nor parts, or both; a model that can be used in none of these ways; while scoring,
            outputs that are not tensors [N, D] of one shape.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        encoder: Part | None = None,
        projector: Part | None = None,
        predictor: Part | None = None,
    ):
        given = {"encoder": encoder, "projector": projector, "predictor": predictor}
        self.encoder, self.projector, self.predictor = take_parts("SimSiam", model, given, _KNOWN, returns="(p, z)").values()
        self.model = unwrapped(model) if self.encoder is None else None
        self.owner = Owner(unwrapped(model))

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, S, S] -> predictions and projections (p, z), each [N, D]."""
        if self.model is not None:
            return _checked_pair(self.model(pixels))
        assert self.encoder is not None and self.predictor is not None
        z = embedded("SimSiam", pixels, self.encoder, self.projector)
        return _checked_pair((self.predictor(z), z))

    def pair_losses(self, outputs: tuple[Tensor, Tensor]) -> Tensor:
        """(p, z), each [B, V, D] of any floating type -> float32 [B, V, V], symmetric."""
        p, z = outputs
        cosine_BVV = cosine_table(p.flatten(2), z.flatten(2))
        return -(cosine_BVV + cosine_BVV.transpose(1, 2)) / 2


def _checked_pair(outputs: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(outputs, (tuple, list)) or len(outputs) != 2 or not all(isinstance(output, Tensor) for output in outputs):
        raise SelectionError(
            f"expected predictions and projections (p, z), two tensors [N, D], got {describe(outputs)}; model(pixels) must return them, "
            f"unless the model has the attributes {attributes(_KNOWN)}; or pass encoder= and predictor= instead"
        )
    p, z = outputs
    if p.shape != z.shape or p.ndim < 2:
        raise SelectionError(
            f"expected predictions p and projections z of one shape [N, D], got {describe(p)} and {describe(z)}; the predictor must map "
            "a projection to a vector of the same length"
        )
    return p, z
