"""Losses of a trained network's outputs and those of a momentum network, as of BYOL, MoCo and TiCo."""

# Axes: N image of a forward, B image, V view, D embedding.

from __future__ import annotations

from typing import Any

from torch import Tensor

from hvs_data.objectives.base import Objective


class MomentumObjective(Objective):
    """An objective of pairs whose ``encode`` returns the trained network's outputs and the momentum network's.

    Attributes:
        momentum_encoder, momentum_projector: parts of the momentum network; the latter None where the encoder ends in it.
    """

    has_teacher = True
    momentum_encoder: Any
    momentum_projector: Any

    @property
    def teacher(self) -> tuple[Any, Any]:
        """The momentum network's parts, which options that spare a teacher look for."""
        return self.momentum_encoder, self.momentum_projector

    def teacher_outputs(self, outputs: tuple[Tensor, Tensor]) -> Tensor:
        """The momentum network's outputs, as it returns them."""
        return outputs[1]

    def momentum_outputs(self, outputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The momentum network's outputs in place of the trained one's, whose predictor it has not."""
        return outputs[1], outputs[1]
