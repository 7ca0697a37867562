"""TiCo (Zhu et al. 2022, arXiv 2206.10698): agreement with a momentum network, and contrast through a running covariance."""

# Axes: N image of a forward, B image, M image of all processes, V view, D E embedding.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvs_data.arguments.values import real_number
from hvs_data.errors import SelectionError
from hvs_data.kernels.pair_scores.product import unrounded_product
from hvs_data.kernels.pair_scores.reference import dot_table
from hvs_data.objectives.base import Owner, unwrapped
from hvs_data.objectives.gather import gathered
from hvs_data.objectives.momentum import MomentumObjective
from hvs_data.objectives.parts import Number, Part, checked_number, current_number, describe, embedded, of_one_shape, take_parts

_KNOWN = (
    {  # lightly
        "encoder": "backbone",
        "projector": "projection_head",
        "momentum_encoder": "backbone_momentum",
        "momentum_projector": "projection_head_momentum",
    },
    {"encoder": "encoder", "projector": "projector", "momentum_encoder": "momentum_encoder", "momentum_projector": "momentum_projector"},
)
# A tensor, a function that returns the current one (or None before the first step), or lightly's criterion, which keeps it as `C`.
Covariance = Tensor | Callable[[], Tensor | None] | nn.Module | None


class TiCo(MomentumObjective):
    """TiCo's loss of views i and j: ``1 - <z_i, m_j> + rho z_i' C_i z_i``.

    z_i is the projection of view i and m_j that of view j by the momentum network, both at length 1; ``C_i = beta C + (1 - beta)`` times
    the mean of ``z_i z_i'`` over the batch, as if every image took view i: the covariance that the step will use. The pair is ordered, as
    the trainer's is: its first view goes to the trained network. The mean over a batch is lightly's ``TiCoLoss``.

    Args:
        model: a model in which the parts are found by name: (backbone, projection_head, backbone_momentum, projection_head_momentum) or
            (encoder, projector, momentum_encoder, momentum_projector). A DistributedDataParallel wrapper is passed by.
        encoder, projector, momentum_encoder, momentum_projector: the parts, instead of a model; no projector where its encoder ends in it.
        covariance: C, floating [D, D], a function that returns it, or lightly's ``TiCoLoss``, whose ``C`` is read at each scoring and
            never written; None, also of a function or a criterion before the first step, for 0.
        beta: weight of C, from 0 to 1.
        rho: weight of the contrast, a number above 0, or a function that is called at each scoring. Both defaults are lightly's.
        gather: take the covariance over all processes of torch.distributed. Every process must then score at the same time.

    Raises:
        SelectionError: neither a model nor parts, or both; a model without these names; numbers out of range; while scoring, a covariance
            of another shape, or outputs that are not tensors [N, D] of one shape.
    """

    ordered = True
    _read_only = ("covariance",)

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        encoder: Part | None = None,
        projector: Part | None = None,
        momentum_encoder: Part | None = None,
        momentum_projector: Part | None = None,
        covariance: Covariance = None,
        beta: float = 0.9,
        rho: Number = 20.0,
        gather: bool = False,
    ):
        given = {
            "encoder": encoder,
            "projector": projector,
            "momentum_encoder": momentum_encoder,
            "momentum_projector": momentum_projector,
        }
        parts: dict[str, Any] = take_parts("TiCo", model, given, _KNOWN)
        self.encoder, self.projector, self.momentum_encoder, self.momentum_projector = parts.values()
        self.owner = Owner(unwrapped(model))
        self.covariance = _reader(covariance)
        number = real_number(beta)
        if number is None or not 0 <= number <= 1:
            raise SelectionError(f"beta must be a number from 0 to 1, got {beta!r}; it is the weight of the covariance so far")
        self.beta = number
        self.rho = checked_number("rho", rho)
        self.gather = gather

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, S, S] -> projections of the trained and of the momentum network (z, m), each [N, D]."""
        z = embedded("TiCo", pixels, self.encoder, self.projector)
        m = embedded("TiCo", pixels, self.momentum_encoder, self.momentum_projector)
        return of_one_shape("TiCo", projections=z, momentum_projections=m)

    def pair_losses(self, outputs: tuple[Tensor, Tensor]) -> Tensor:
        """(z, m), each [B, V, D] of any floating type -> float32 [B, V, V]: the first view is the trained network's."""
        z_BVD, m_BVD = (F.normalize(output.to(torch.float32), dim=-1) for output in outputs)
        all_MVD, _ = gathered(z_BVD) if self.gather else (z_BVD, 0)
        so_far_DE = None if self.covariance is None else self.covariance()
        earlier_DE = None if so_far_DE is None else self.beta * _checked(so_far_DE, z_BVD)
        contrast_BV = torch.stack(
            [self._contrast(z_BD, all_MD, earlier_DE) for z_BD, all_MD in zip(z_BVD.unbind(1), all_MVD.unbind(1), strict=True)], dim=1
        )
        return 1 - dot_table(z_BVD, m_BVD) + current_number("rho", self.rho) * contrast_BV[:, :, None]

    def _contrast(self, z_BD: Tensor, all_MD: Tensor, earlier_DE: Tensor | None) -> Tensor:
        """``z' C z`` of one view of every image, C as the step will have it: [B]."""
        covariance_DE = (1 - self.beta) * unrounded_product(all_MD.T.contiguous(), all_MD.T.contiguous()) / len(all_MD)
        covariance_DE = covariance_DE if earlier_DE is None else covariance_DE + earlier_DE
        return (unrounded_product(z_BD, covariance_DE) * z_BD).sum(1)


def _reader(covariance: Covariance) -> Callable[[], Any] | None:
    """A function that returns the covariance of the moment. It hides a criterion from ``modules()``: nothing calls it."""
    if isinstance(covariance, Tensor):
        return lambda: covariance
    if isinstance(covariance, nn.Module):
        if not hasattr(covariance, "C"):
            raise SelectionError(
                f"expected TiCo's covariance= as a tensor, a function that returns one, or a criterion that keeps it as `C`, got "
                f"{type(covariance).__name__} without one; pass lambda: criterion.covariance, or whatever its name is"
            )
        criterion = covariance
        return lambda: criterion.C
    if covariance is not None and not callable(covariance):
        raise SelectionError(f"expected TiCo's covariance= as a tensor, a function that returns one, or a criterion, got {covariance!r}")
    return covariance


def _checked(covariance: Any, z_BVD: Tensor) -> Tensor:
    length = z_BVD.shape[2]
    if not isinstance(covariance, Tensor) or covariance.shape != (length, length):
        raise SelectionError(f"expected TiCo's covariance as floating [{length}, {length}], got {describe(covariance)}")
    return covariance.detach().to(z_BVD.device, torch.float32)
