"""MMCR (Yerxa et al. 2023, arXiv 2303.03307): views of an image that agree, so that the mean of their projections is long. A proxy."""

# Axes: N image of a forward, B image, T global view, D embedding.

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvs_data.objectives.additive import AdditiveObjective
from hvs_data.objectives.base import Owner, unwrapped
from hvs_data.objectives.parts import Part, embedded, of_one_shape, take_parts

_BRANCH = {"encoder": "backbone", "projector": "projection_head"}
_KNOWN = (
    {**_BRANCH, "target_encoder": "backbone_momentum", "target_projector": "projection_head_momentum"},  # lightly
    {"encoder": "encoder", "projector": "projector", "target_encoder": "target_encoder", "target_projector": "target_projector"},
)


class MMCR(AdditiveObjective):
    """A proxy for MMCR's loss, which is of a batch: ``1 - |c|^2``, c the mean of the image's projections at length 1 (its centroid).

    The published loss is minus the nuclear norm of the matrix of all images' centroids, and no image has a part of it. An image's centroid
    is long, and adds to that norm, where its views agree: the hardest set of views is the one whose centroid is shortest. Since ``|c|^2``
    is a sum over pairs of views, it is found exactly. With a momentum network the centroid is of both networks' projections, as lightly's
    ``MMCRLoss`` has it. It takes any number of global views, and no local ones.

    Args:
        model: a model in which the parts are found by name: (backbone, projection_head, backbone_momentum, projection_head_momentum) or
            (encoder, projector, target_encoder, target_projector). A DistributedDataParallel wrapper is passed by.
        encoder, projector: the parts, instead of a model; ``projector=None`` where the encoder ends in it.
        target_encoder, target_projector: of a momentum network; None for the centroid of one network's projections.

    Raises:
        SelectionError: neither a model nor parts, or both; a model without these names; while scoring, outputs that are not tensors [N, D]
            of one shape.
    """

    any_globals = True
    has_teacher = False

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        encoder: Part | None = None,
        projector: Part | None = None,
        target_encoder: Part | None = None,
        target_projector: Part | None = None,
    ):
        given: dict[str, Part | None] = {"encoder": encoder, "projector": projector}
        if model is not None or target_encoder is not None:
            given |= {"target_encoder": target_encoder, "target_projector": target_projector}
        parts: dict[str, Any] = take_parts("MMCR", model, given, _KNOWN)
        self.encoder, self.projector = parts["encoder"], parts["projector"]
        self.target_encoder, self.target_projector = parts.get("target_encoder"), parts.get("target_projector")
        self.owner = Owner(unwrapped(model))

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, S, S] -> the mean of both networks' projections at length 1, [N, D], for teacher and student alike."""
        z = F.normalize(embedded("MMCR", pixels, self.encoder, self.projector).to(torch.float32), dim=1)
        if self.target_encoder is not None:
            target = F.normalize(embedded("MMCR", pixels, self.target_encoder, self.target_projector).to(torch.float32), dim=1)
            z = torch.stack(of_one_shape("MMCR", projections=z, target_projections=target)).mean(0)
        return z, z

    def term_table(self, teacher: Tensor, student: Tensor, local: Tensor | None, views: int, global_views: int = 2) -> Tensor:
        """Projections [B, T, D] twice -> float32 [B, T, T]: minus what each two views add to the squared length of the centroid."""
        z_BTD = teacher.to(torch.float32)
        product_BTT = (z_BTD[:, :, None] * z_BTD[:, None]).sum(-1) / global_views**2
        return torch.eye(z_BTD.shape[1], device=z_BTD.device) / global_views - product_BTT
