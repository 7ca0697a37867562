"""Objectives whose losses are given, whichever of the candidates a selector shows them."""

# Axes: B image, V view slot, K shown view.

from __future__ import annotations

import torch
from torch import Tensor

from hvs_data import Objective


class Numbered(Objective):
    """The loss of a pair from the numbers that its views' pixels hold (:func:`numbered_views`).

    Attributes:
        shown: how many views of an image it was shown, forward by forward.
    """

    def __init__(self, losses_BVV: Tensor, ordered: bool = False):
        self.losses = losses_BVV
        self.ordered = ordered
        self.shown: list[int] = []

    def encode(self, pixels: Tensor) -> Tensor:
        self.shown.append(len(pixels) // max(1, len(self.losses)))
        return pixels[:, 0, 0, 0]

    def pair_losses(self, outputs: Tensor) -> Tensor:
        slot_BK = outputs.long()
        image_B11 = torch.arange(len(slot_BK))[:, None, None]
        return self.losses[image_B11, slot_BK[:, :, None], slot_BK[:, None, :]]


def numbered_views(views: int, images: int) -> list[Tensor]:
    return [torch.full((images, 3, 4, 4), float(slot)) for slot in range(views)]
