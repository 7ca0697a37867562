"""Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230): a proxy, as its loss is of a batch and not of an image."""

# Axes: N image of a forward, B image, M image of all processes, V view, D embedding.

from __future__ import annotations

import torch
from torch import Tensor, nn

from hvs_data.errors import SelectionError
from hvs_data.kernels.pair_scores.correlation.blocks import share_table
from hvs_data.kernels.pair_scores.reference import cosine_table
from hvs_data.objectives.base import Objective, Owner, unwrapped
from hvs_data.objectives.gather import gathered
from hvs_data.objectives.parts import Part, embedded, take_branch

PROXIES = ("share", "cosine")

# of torch.nn.BatchNorm1d, with which the loss standardises its embeddings
_EPS = 1e-5


class BarlowTwins(Objective):
    """A proxy for Barlow Twins, which has no loss of one image's pair.

    Its loss compares the dimensions of two views over a batch: with a and b the projections of the views i and j, standardised over the
    images, and C the mean over images of ``a b^T``, it is ``sum_d (1 - C_dd)^2 + redundancy * sum_{d != e} C_de^2``. What is hard
    about one image can be told from it in more than one way, so the way is named:

    - "share": the image's additive share, one factor of each square taken image by image:
      ``sum_d (1 - C_dd) (1 - a_d b_d) + redundancy * sum_{d != e} C_de a_d b_e``. Its mean over a batch is the loss, as if every
      image took the views i and j. Where other images' choices differ, the loss that follows is another one.
    - "cosine": ``-cos(z_i, z_j)`` of the projections z, which looks at no other image.

    Args:
        model: a model in which the parts are found by name: (backbone, projection_head), (backbone, projector) or
            (encoder, projector). A DistributedDataParallel wrapper is passed by. A model without these names is called as
            ``model(pixels)`` with pixels [N, 3, S, S] and must return projections [N, D].
        encoder, projector: the parts, instead of a model; ``projector=None`` where the encoder ends in it.
        proxy: "share" or "cosine".
        redundancy: weight of the second term, the loss's lambda (0.0051 in the official code, 0.005 in lightly).
        gather: standardise and take means over the images of all processes of torch.distributed, as the official trainer does (its
            normalisation is synchronised). Every process must then score the same number of images at the same time; sizes are not
            compared.

    Raises:
        SelectionError: neither a model nor parts, or both; a model that can be used in none of these ways; an unknown proxy; a
            negative redundancy; while scoring, outputs that are not tensors [N, D].
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        encoder: Part | None = None,
        projector: Part | None = None,
        proxy: str = "share",
        redundancy: float = 0.0051,
        gather: bool = False,
    ):
        self.encoder, self.projector = take_branch("BarlowTwins", model, encoder, projector)
        self.owner = Owner(unwrapped(model))
        if proxy not in PROXIES:
            raise SelectionError(f"proxy must be one of {PROXIES}, got {proxy!r}; it names what stands for the loss of one image's pair")
        if not redundancy >= 0:
            raise SelectionError(f"redundancy must be at least 0, got {redundancy!r}; it is the loss's lambda")
        self.proxy = proxy
        self.redundancy = redundancy
        self.gather = gather

    def encode(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] -> projections [N, D]."""
        return embedded("BarlowTwins", pixels, self.encoder, self.projector)

    def pair_losses(self, outputs: Tensor) -> Tensor:
        """Projections [B, V, D] of any floating type -> float32 [B, V, V], symmetric."""
        if self.proxy == "cosine":
            return -cosine_table(outputs, outputs)
        images, outputs = len(outputs), outputs.to(torch.float32)
        all_MVD, own = gathered(outputs) if self.gather else (outputs, 0)
        all_MVD = _standardised(all_MVD)
        return share_table(all_MVD[own : own + images], all_MVD, self.redundancy)


def _standardised(z_MVD: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the images, for each view and dimension on its own; 0 where all images agree."""
    z_MVD = z_MVD - z_MVD.mean(0)
    return z_MVD / (z_MVD.square().mean(0) + _EPS).sqrt()
