"""VICReg (Bardes et al. 2022, arXiv 2105.04906): squared distance of two views, the part of its loss that depends on the pair."""

# Axes: N image of a forward, B image, V view, D embedding.

from __future__ import annotations

from torch import Tensor, nn

from hvs_data.kernels.pair_scores.distance.blocks import squared_distance_table
from hvs_data.objectives.base import Objective, Owner, unwrapped
from hvs_data.objectives.parts import Number, Part, checked_number, current_number, embedded, take_branch


class VICReg(Objective):
    """VICReg's invariance term of views i and j: ``weight * mean_d (z_i - z_j)^2``.

    z are the projections. The mean over a batch is the published loss without its variance and covariance terms: they are of the
    batch, have no part of one image, and do not compare the two views.

    Args:
        model: a model in which the parts are found by name: (backbone, projection_head), (backbone, projector) or
            (encoder, projector). A DistributedDataParallel wrapper is passed by. A model without these names is called as
            ``model(pixels)`` with pixels [N, 3, S, S] and must return projections [N, D].
        encoder, projector: the parts, instead of a model; ``projector=None`` where the encoder ends in it.
        weight: of the term, the loss's lambda. No choice depends on it.

    Raises:
        SelectionError: neither a model nor parts, or both; a model that can be used in none of these ways; a weight that is no
            number above 0; while scoring, outputs that are not tensors [N, D].
    """

    _read_only = ("weight",)

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        encoder: Part | None = None,
        projector: Part | None = None,
        weight: Number = 25.0,
    ):
        self.encoder, self.projector = take_branch("VICReg", model, encoder, projector)
        self.owner = Owner(unwrapped(model))
        self.weight = checked_number("weight", weight)

    def encode(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] -> projections [N, D]."""
        return embedded("VICReg", pixels, self.encoder, self.projector)

    def pair_losses(self, outputs: Tensor) -> Tensor:
        """Projections [B, V, D] of any floating type -> float32 [B, V, V], symmetric."""
        return current_number("weight", self.weight) * squared_distance_table(outputs)
