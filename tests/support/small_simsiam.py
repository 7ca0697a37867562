"""SimSiam with a network of a few hundred weights, and its pair losses as the formula has them."""

# Axes: B image, V view, D embedding.

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

WIDTH, LENGTH = 16, 12
# Witness and selector run the same forward on the same batch. From there on the witness works in float64, and the selector's cosines
# err by (2 D + 8) units of float32 (see COSINE in pair_formulas): 2e-6 each, for the chosen pair and for the hardest.
TOLERANCE = 5e-6


class SmallSimSiam(nn.Module):
    """``forward(x1, x2)`` is the loss; under Hugging Face's Trainer wrap it in a dict."""

    def __init__(self) -> None:
        super().__init__()
        convolution = nn.Sequential(nn.Conv2d(3, WIDTH, 5, stride=2), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.encoder = nn.Sequential(*convolution, nn.Flatten(), nn.Linear(WIDTH, LENGTH))
        self.predictor = nn.Sequential(nn.Linear(LENGTH, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, LENGTH))

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        z1, z2 = self.encoder(x1), self.encoder(x2)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        return -(cosine_similarity(p1, z2.detach()).mean() + cosine_similarity(p2, z1.detach()).mean()) / 2


def small_simsiam() -> SmallSimSiam:
    """The same one each time."""
    torch.manual_seed(0)
    return SmallSimSiam()


def pair_losses(parts: Mapping[str, nn.Module], views: list[Tensor]) -> Tensor:
    """[B, V, V] of "encoder" and "predictor", all views normalised in one batch."""
    z = parts["encoder"](torch.cat(views))
    p = parts["predictor"](z)
    p_BVD, z_BVD = (unit(output.double().unflatten(0, (len(views), -1)).transpose(0, 1)) for output in (p, z))
    cosine_BVV = p_BVD @ z_BVD.transpose(1, 2)
    return -(cosine_BVV + cosine_BVV.transpose(1, 2)) / 2


def unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)
