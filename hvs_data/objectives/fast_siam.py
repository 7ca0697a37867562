"""FastSiam (Pototzky et al. 2022): each view's prediction against the mean of the other views' projections."""

# Axes: N image of a forward, B image, V view, D embedding, Q set of views, K view of a set.

from __future__ import annotations

import torch
from torch import Tensor

from hvs_data.kernels.pair_scores.reference import COSINE_EPS, dot_table
from hvs_data.objectives.simsiam import SimSiam


class FastSiam(SimSiam):
    """FastSiam's loss of a set of views: the mean over its views i of ``-cos(p_i, sum of z_j over the others)``.

    z is the projection of a view and p the prediction made from it, as in SimSiam, whose loss it is for two views. The mean over a batch
    is the published loss. It is no sum over pairs, as the length of the mean counts, and is worked out for every set of views; so it is
    exact, and takes at most as many sets as are looked at. Beside local views that are chosen (``score_locals``) it is SimSiam's mean over
    pairs.

    Arguments and errors as of :class:`SimSiam`.
    """

    def set_losses(self, outputs: tuple[Tensor, Tensor], sets_QK: Tensor) -> Tensor:
        """(p, z), each [B, V, D] of any floating type -> float32 [B, Q]."""
        p_BVD, z_BVD = (output.flatten(2).to(torch.float32) for output in outputs)
        length_BV1 = torch.linalg.vector_norm(p_BVD, dim=-1, keepdim=True).clamp_min(COSINE_EPS)
        with_others_BVV, between_BVV = dot_table(p_BVD / length_BV1, z_BVD), dot_table(z_BVD, z_BVD)
        places, views = sets_QK.unbind(1), z_BVD.shape[1]

        def sums(table_BVV: Tensor, place_Q: Tensor, others: list[Tensor]) -> Tensor:
            flat_BN = table_BVV.flatten(1)
            return torch.stack([flat_BN.index_select(1, place_Q * views + other_Q) for other_Q in others]).sum(0)

        total_BQ = torch.zeros(len(z_BVD), len(sets_QK), device=z_BVD.device)
        for place_Q in places:
            others = [other_Q for other_Q in places if other_Q is not place_Q]
            # the squared length of the others' sum
            square_BQ = torch.stack([sums(between_BVV, other_Q, others) for other_Q in others]).sum(0)
            total_BQ -= sums(with_others_BVV, place_Q, others) / square_BQ.clamp_min(0).sqrt().clamp_min(COSINE_EPS)
        return total_BQ / len(places)
