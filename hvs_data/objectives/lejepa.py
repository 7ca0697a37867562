"""LeJEPA (Balestriero & LeCun 2025, arXiv 2511.08544): every view's projection near the mean of the global views' projections."""

# Axes: N image of a forward, B image, T global view, L local view, S student's view (global, then local), D embedding.

from __future__ import annotations

import torch
from torch import Tensor, nn

from hvs_data.kernels.pair_scores.distance.blocks import squared_distance_table
from hvs_data.objectives.additive import AdditiveObjective
from hvs_data.objectives.base import Owner, unwrapped
from hvs_data.objectives.parts import Part, embedded, take_branch


class LeJEPA(AdditiveObjective):
    """LeJEPA's prediction term: ``mean over views v and dimensions d of (z_v - m)^2``, m the mean of the global views' projections z.

    For any numbers of global and local views. With G global views and L local ones it is, but for 1 / (G + L),
    ``(1 / G - L / G^2) sum over pairs i < j of global views of d_ij + 1 / G sum over global views g and local views l of d_gl``, d the mean
    squared distance of two projections, so that the best of all combinations is found exactly. The mean over a batch is the term as it
    is published (github.com/galilai-group/lejepa). The sketched Gaussian regulariser is of the batch, has no part of one image, and is
    left out.

    With more local views than global ones the first factor is below 0: the hardest global views lie close together, and far from local
    ones.

    Args:
        model: a model in which the parts are found by name: (backbone, projection_head), (backbone, projector) or (encoder, projector). A
            DistributedDataParallel wrapper is passed by. A model without these names is called as ``model(pixels)`` with pixels
            [N, 3, S, S] and must return projections [N, D].
        encoder, projector: the parts, instead of a model; ``projector=None`` where the encoder ends in it.

    Raises:
        SelectionError: neither a model nor parts, or both; a model that can be used in none of these ways; while scoring, outputs that are
            not tensors [N, D].
    """

    any_globals = True
    has_teacher = False

    def __init__(self, model: nn.Module | None = None, *, encoder: Part | None = None, projector: Part | None = None):
        self.encoder, self.projector = take_branch("LeJEPA", model, encoder, projector)
        self.owner = Owner(unwrapped(model))

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Global views [N, 3, S, S] -> projections [N, D], for teacher and student alike."""
        z = self.encode_local(pixels)
        return z, z

    def encode_local(self, pixels: Tensor) -> Tensor:
        """Views [N, 3, S, S] -> projections [N, D]."""
        return embedded("LeJEPA", pixels, self.encoder, self.projector)

    def term_table(self, teacher: Tensor, student: Tensor, local: Tensor | None, views: int, global_views: int = 2) -> Tensor:
        """Projections [B, T, D] twice and [B, L, D] -> float32 [B, T, T + L]."""
        z_BSD = student if local is None else torch.cat([student, local], dim=1)
        table_BTS = squared_distance_table(z_BSD)[:, : teacher.shape[1]]
        of_pair = 1 / global_views - (views - global_views) / global_views**2
        factor_S = torch.full((z_BSD.shape[1],), 1 / global_views / views, device=table_BTS.device)
        factor_S[: teacher.shape[1]] = of_pair / 2 / views  # both entries of a pair are read
        return table_BTS * factor_S
