"""What a method of the benches is: its views, networks, loss and optimizer."""

# Axes: B image, N image of a forward, S side, K prototype.

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import hvs_data as hvs
from hvs_data.recipes.spec import Recipe


@dataclass(frozen=True)
class Sizes:
    """How large a training is.

    Attributes:
        view: side in pixels of the views that are trained on; local ones have half of it.
        width: channels of the ResNet's first stage, or a sixteenth of the transformer's.
        stem_stride: of the ResNet.
        batch: images of a step.
        learning_rate: the highest.
        published: the backbones of the publications and their blur, for sides near 224, in place of small ones; ``width`` and
            ``stem_stride`` then say nothing.
    """

    view: int = 64
    width: int = 64
    stem_stride: int = 1
    batch: int = 128
    learning_rate: float = 0.06
    published: bool = False


class Method(ABC):
    """What is trained. Steps are ``loss(views).backward()``, the optimizer's, and ``after_step()``.

    Attributes:
        model: all that is saved of a training.
        encoder: maps [N, 3, S, S] to features [N, F], as it is evaluated.
        masked: whether ``loss`` takes the masks of global views, ``masks=`` bool [B, G, G] each.
    """

    model: nn.Module
    encoder: nn.Module
    masked: bool = False

    def __init__(self, sizes: Sizes):
        self.sizes = sizes

    @abstractmethod
    def recipe(self, candidates: int) -> Recipe:
        """Views of an image, of which two (or those that the method trains on) are left by a selector."""

    @abstractmethod
    def objective(self) -> hvs.Objective:
        """What scores its candidates."""

    @abstractmethod
    def loss(self, views: Sequence[Tensor], teacher: Any = None) -> Tensor:
        """The published loss of a batch: a scalar.

        Args:
            views: chosen ones, each [B, 3, S, S].
            teacher: what a teacher gave for the first two views, [2 B, K] or several outputs, where the selection kept it.
        """

    def optimizer(self) -> torch.optim.Optimizer:
        its = self.sizes
        return torch.optim.SGD(self.model.parameters(), lr=its.learning_rate, momentum=0.9, weight_decay=5e-4, fused=True)

    def after_step(self) -> None:
        """What moves without a gradient: nothing, by default."""
        return
