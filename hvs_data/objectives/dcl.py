"""DCL and DCLW (Yeh et al. 2022, arXiv 2110.06848): SimCLR's loss with the positive taken out of the denominator."""

# Axes: N image of a forward, B image, M image of all processes, V view, D embedding.

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from hvs_data.kernels.pair_scores.reference import dot_table
from hvs_data.objectives.parts import LOSS, POSITIVE, Number, Part, checked_number, current_number
from hvs_data.objectives.simclr import SimCLR


class DCL(SimCLR):
    """DCL's loss of views i and j: the mean of both directions of ``lse(N_ij, N_ii) - w P_ij``, in the notation of :class:`SimCLR`.

    The mean over a batch is the loss of lightly's ``DCLLoss``, with ``sigma`` that of its ``DCLWLoss``. One image alone has no negatives,
    and only its positives tell.

    Args:
        model, encoder, projector, temperature, gather, score: as for :class:`SimCLR`.
        sigma: None for DCL, w = 1. A number above 0, or a function that is called at each scoring, for DCLW: w is 2 less an image's share
            of exp(<z_i, z_j> / sigma) among the B images of this process, times B, so that positives that agree already weigh less. The
            paper's is 0.5.

    Raises:
        SelectionError: as :class:`SimCLR`; a sigma that is no number above 0.
    """

    _read_only = ("temperature", "sigma")

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        encoder: Part | None = None,
        projector: Part | None = None,
        temperature: Number | None = None,
        gather: bool = False,
        score: str = LOSS,
        sigma: Number | None = None,
    ):
        super().__init__(model, encoder=encoder, projector=projector, temperature=temperature, gather=gather, score=score)
        self.sigma = None if sigma is None else checked_number("sigma", sigma)

    def pair_losses(self, outputs: Tensor) -> Tensor:
        """Projections [B, V, D] of any floating type -> float32 [B, V, V], symmetric."""
        temperature = current_number("temperature", self.temperature)
        z_BVD = F.normalize(outputs.float(), dim=-1)
        cosine_BVV = dot_table(z_BVD, z_BVD)
        weighted_BVV = cosine_BVV / temperature
        if self.sigma is not None:
            share_BVV = (cosine_BVV / current_number("sigma", self.sigma)).softmax(0)
            weighted_BVV = weighted_BVV * (2 - len(outputs) * share_BVV)
        if self.score == POSITIVE:
            return -weighted_BVV
        direction_BVV = self._negatives(z_BVD, temperature) - weighted_BVV
        # without another image there is no negative, whose log-sum-exp is -inf
        direction_BVV = direction_BVV.where(direction_BVV > float("-inf"), -weighted_BVV)
        return (direction_BVV + direction_BVV.transpose(1, 2)) / 2
