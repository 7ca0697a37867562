"""The methods that the benches train, each as small as a user would write it."""

# Axes: B image, D embedding, P pair of views.

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hvs_data as hvs
from harness.pretraining import networks
from harness.pretraining.distillation import DINO, DINOv2
from harness.pretraining.method import Method, Sizes
from hvs_data.demo.model import SimSiam as SmallSimSiam
from hvs_data.demo.model import simsiam_loss
from hvs_data.recipes.spec import ColorJitter, Recipe


def small_images(recipe: Recipe, sizes: Sizes) -> Recipe:
    """Without blur and with colours changed half as much as SimCLR's on ImageNet: what SimSiam and SimCLR publish for CIFAR-10."""
    return recipe if sizes.published else recipe.with_roles(blur=0.0, jitter=ColorJitter())


class SimSiam(Method):
    """SimSiam (Chen & He 2021, arXiv 2011.10566) on a ResNet-18, or on ResNet-50 as published."""

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        encoder, features = networks.resnet(sizes.published, sizes.width, sizes.stem_stride)
        self.model = SmallSimSiam(features // 8, dimensions=min(2048, 2 * features))
        self.model.encoder = self.encoder = encoder

    def recipe(self, candidates: int) -> Recipe:
        return small_images(hvs.recipes.simsiam(candidates, self.sizes.view), self.sizes)

    def objective(self) -> hvs.Objective:
        return hvs.objectives.SimSiam(self.model)

    def loss(self, views: Sequence[Tensor], teacher: Any = None) -> Tensor:
        return simsiam_loss(self.model, *views)


class SimCLR(Method):
    """SimCLR (Chen et al. 2020, arXiv 2002.05709) on a ResNet-18, or on ResNet-50 as published.

    Of more than two views the loss is the mean over images of all pairs' losses, weighed within an image by their softmax.

    Attributes:
        pairs_temperature: of the softmax; infinite: all pairs alike.
    """

    temperature = 0.2
    pairs_temperature = math.inf

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        encoder, features = networks.resnet(sizes.published, sizes.width, sizes.stem_stride)
        self.model = nn.ModuleDict({"encoder": encoder, "projector": networks.projector(features, 128)})
        self.encoder = self.model["encoder"]

    def recipe(self, candidates: int) -> Recipe:
        return small_images(hvs.recipes.simclr(candidates, self.sizes.view), self.sizes)

    def objective(self) -> hvs.Objective:
        return hvs.objectives.SimCLR(encoder=self.encoder, projector=self.model["projector"], temperature=self.temperature)

    def loss(self, views: Sequence[Tensor], teacher: Any = None) -> Tensor:
        z = [self.model["projector"](self.encoder(view)) for view in views]
        if len(z) == 2:
            return contrast(torch.cat(z), self.temperature)
        each_P2B = [contrast(torch.cat(pair), self.temperature, reduction="none") for pair in combinations(z, 2)]
        loss_PB = torch.stack([each.view(2, -1).mean(0) for each in each_P2B])
        weight_PB = torch.softmax(loss_PB.detach() / self.pairs_temperature, 0)
        return (weight_PB * loss_PB).sum(0).mean()


def contrast(z: Tensor, temperature: float, reduction: str = "mean") -> Tensor:
    """NT-Xent of embeddings [2 B, D], the first views before the second ones: a scalar, or [2 B] without a reduction."""
    z = F.normalize(z.float(), dim=-1)
    logits = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(z) // 2), reduction=reduction)


class BYOL(Method):
    """BYOL (Grill et al. 2020, arXiv 2006.07733) on a ResNet-18, or on ResNet-50 as published. Small views are SimCLR's, as lightly has it.

    Of three views, (anchor, hard, random), the loss is that of (anchor, random) in both directions and, as half as much again, that of the
    hard view towards the anchor: strong views as source and weak ones as target (Bai et al., DSSL, CVPR 2022).
    """

    momentum = 0.99

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        encoder, features = networks.resnet(sizes.published, sizes.width, sizes.stem_stride)
        self.model = nn.ModuleDict({"encoder": encoder, "projector": networks.projector(features, 128)})
        self.model["predictor"] = networks.projector(128, 128)
        for name in ("encoder", "projector"):
            self.model[f"target_{name}"] = copy.deepcopy(self.model[name]).requires_grad_(False)
        self.encoder = self.model["encoder"]

    def recipe(self, candidates: int) -> Recipe:
        if self.sizes.published:
            return hvs.recipes.byol(candidates, self.sizes.view)
        return small_images(hvs.recipes.simclr(candidates, self.sizes.view), self.sizes)

    def objective(self) -> hvs.Objective:
        return hvs.objectives.BYOL(self.model)

    def loss(self, views: Sequence[Tensor], teacher: Any = None) -> Tensor:
        views = [views[0], views[2], views[1]] if len(views) == 3 else list(views)
        p = [self.model["predictor"](self.model["projector"](self.encoder(view))) for view in views]
        with torch.no_grad():
            z = [self.model["target_projector"](self.model["target_encoder"](view)) for view in views[:2]]
        both = _apart(p[0], z[1]) + _apart(p[1], z[0])
        return both if len(views) == 2 else both + _apart(p[2], z[0])

    def optimizer(self) -> torch.optim.Optimizer:
        its = self.sizes
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        return torch.optim.SGD(trained, lr=its.learning_rate, momentum=0.9, weight_decay=5e-4)

    @torch.no_grad()
    def after_step(self) -> None:
        for name in ("encoder", "projector"):
            for mine, its in zip(self.model[f"target_{name}"].parameters(), self.model[name].parameters(), strict=True):
                mine.lerp_(its, 1 - self.momentum)


def _apart(p: Tensor, z: Tensor) -> Tensor:
    """BYOL's loss in one direction, 2 - 2 cos, the mean over images: a scalar."""
    return 2 - 2 * F.cosine_similarity(p.float(), z.float()).mean()


METHODS: dict[str, type[Method]] = {"simsiam": SimSiam, "simclr": SimCLR, "byol": BYOL, "dino": DINO, "dinov2": DINOv2}


def build(name: str, sizes: Sizes, seed: int) -> Method:
    """A method with new weights, the same ones for the same seed."""
    torch.manual_seed(seed)
    method = METHODS[name](sizes)
    method.model.train().to(memory_format=torch.channels_last)
    return method


def described(method: Method) -> dict[str, Any]:
    """What a result says of a network."""
    return {"parameters": sum(weight.numel() for weight in method.encoder.parameters())}
