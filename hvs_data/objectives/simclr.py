"""SimCLR (Chen et al. 2020, arXiv 2002.05709): two views of an image against the views of all other images."""

# Axes: N image of a forward, B image, M image of all processes, V view, D embedding.

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvs_data.kernels.pair_scores.contrast.blocks import lse_table
from hvs_data.kernels.pair_scores.reference import cosine_table, dot_table
from hvs_data.objectives.base import Objective, Owner, unwrapped
from hvs_data.objectives.gather import gathered
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
    take_branch,
)


class SimCLR(Objective):
    """SimCLR's loss of views i and j: the mean of both directions of ``lse(P_ij, N_ij, N_ii) - P_ij``.

    With z the projections at length 1, ``P_ij = <z_i, z_j> / temperature`` of the image itself, and ``N_ij`` the log-sum-exp of
    ``<z_i, z_j'> / temperature`` over the other images' views j: what the trainer's loss would be if every image of the batch took the
    views i and j. The mean over a batch is that loss (NT-Xent). One image alone has no negatives, and all its pairs the loss 0.

    Args:
        model: a model in which the parts are found by name: (backbone, projection_head), (backbone, projector) or
            (encoder, projector). A DistributedDataParallel wrapper is passed by. A model without these names is called as
            ``model(pixels)`` with pixels [N, 3, S, S] and must return projections [N, D].
        encoder, projector: the parts, instead of a model; ``projector=None`` where the encoder ends in it.
        temperature: a number above 0, or a function that is called at each scoring; by default the model's attribute
            ``temperature``, if that is a number, else the published 0.1.
        gather: take negatives from all processes of torch.distributed, as a trainer's loss that gathers does. Every process must
            then score the same number of images at the same time; sizes are not compared.
        score: "loss", the trainer's; or "positive", the part of it that the pair makes by itself, ``-P_ij``, in the same units. Negatives
            do not count then, and nothing is gathered.

    Raises:
        SelectionError: neither a model nor parts, or both; a model that can be used in none of these ways; a temperature that is no
            number above 0; another score; while scoring, outputs that are not tensors [N, D].
    """

    _read_only: tuple[str, ...] = ("temperature",)

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        encoder: Part | None = None,
        projector: Part | None = None,
        temperature: Number | None = None,
        gather: bool = False,
        score: str = LOSS,
    ):
        self.encoder, self.projector = take_branch("SimCLR", model, encoder, projector)
        self.owner = Owner(unwrapped(model))
        self.temperature = checked_number("temperature", number_of(model, ("temperature",), temperature, 0.1))
        self.gather = gather
        self.score = checked_score(score)

    def encode(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] -> projections [N, D]."""
        return embedded("SimCLR", pixels, self.encoder, self.projector)

    def pair_losses(self, outputs: Tensor) -> Tensor:
        """Projections [B, V, D] of any floating type -> float32 [B, V, V], symmetric."""
        temperature = current_number("temperature", self.temperature)
        if self.score == POSITIVE:
            return -cosine_table(outputs, outputs) / temperature
        z_BVD = F.normalize(outputs.to(torch.float32), dim=-1)
        # lse(P, N) - P as it stands would lose a small loss in the rounding of a large P
        direction_BVV = F.softplus(self._negatives(z_BVD, temperature) - dot_table(z_BVD / temperature, z_BVD))
        return (direction_BVV + direction_BVV.transpose(1, 2)) / 2

    def _negatives(self, z_BVD: Tensor, temperature: float | Tensor) -> Tensor:
        """``lse(N_ij, N_ii)`` of projections at length 1: [B, V, V]; -inf without another image."""
        all_MVD, own = gathered(z_BVD) if self.gather else (z_BVD, 0)
        negatives_BVV = lse_table(z_BVD / temperature, all_MVD, own)
        return torch.logaddexp(negatives_BVV, negatives_BVV.diagonal(dim1=1, dim2=2)[:, :, None])
