"""The methods that the benches train, each as small as a user would write it: views, networks, loss, optimizer."""

# Axes: B image, N image of a forward, S side, K prototype.

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hvs_data as hvs
from harness.pretraining import networks
from hvs_data.demo.model import SimSiam as SmallSimSiam
from hvs_data.demo.model import simsiam_loss
from hvs_data.recipes.spec import ColorJitter, Recipe


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
    """

    model: nn.Module
    encoder: nn.Module

    def __init__(self, sizes: Sizes):
        self.sizes = sizes

    @abstractmethod
    def recipe(self, candidates: int) -> Recipe:
        """Views of an image, of which two (or those that the method trains on) are left by a selector."""

    @abstractmethod
    def objective(self) -> hvs.Objective:
        """What scores its candidates."""

    @abstractmethod
    def loss(self, views: Sequence[Tensor], teacher: Tensor | None = None) -> Tensor:
        """The published loss of a batch: a scalar.

        Args:
            views: chosen ones, each [B, 3, S, S].
            teacher: what a teacher gave for the first two views, [2 B, K], where the selection kept it.
        """

    def optimizer(self) -> torch.optim.Optimizer:
        its = self.sizes
        return torch.optim.SGD(self.model.parameters(), lr=its.learning_rate, momentum=0.9, weight_decay=5e-4)

    def after_step(self) -> None:
        """What moves without a gradient: nothing, by default."""
        return


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

    def loss(self, views: Sequence[Tensor], teacher: Tensor | None = None) -> Tensor:
        return simsiam_loss(self.model, *views)


class SimCLR(Method):
    """SimCLR (Chen et al. 2020, arXiv 2002.05709) on a ResNet-18, or on ResNet-50 as published."""

    temperature = 0.2

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        encoder, features = networks.resnet(sizes.published, sizes.width, sizes.stem_stride)
        self.model = nn.ModuleDict({"encoder": encoder, "projector": networks.projector(features, 128)})
        self.encoder = self.model["encoder"]

    def recipe(self, candidates: int) -> Recipe:
        return small_images(hvs.recipes.simclr(candidates, self.sizes.view), self.sizes)

    def objective(self) -> hvs.Objective:
        return hvs.objectives.SimCLR(encoder=self.encoder, projector=self.model["projector"], temperature=self.temperature)

    def loss(self, views: Sequence[Tensor], teacher: Tensor | None = None) -> Tensor:
        z = torch.cat([self.model["projector"](self.encoder(view)) for view in views])
        return contrast(z, self.temperature)


def contrast(z: Tensor, temperature: float) -> Tensor:
    """NT-Xent of embeddings [2 B, D], the first views before the second ones: a scalar."""
    z = F.normalize(z.float(), dim=-1)
    logits = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(z) // 2))


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

    def loss(self, views: Sequence[Tensor], teacher: Tensor | None = None) -> Tensor:
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


class DINO(Method):
    """DINO (Caron et al. 2021, arXiv 2104.14294) on a small vision transformer, with two global and two local views.

    Candidates are as many local views as global ones. As published: ViT-S/16, 65,536 prototypes, eight local views, and four local
    candidates for each global one.
    """

    momentum, center_momentum = 0.99, 0.9
    teacher_temperature, student_temperature = 0.04, 0.1

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        self.prototypes, self.local_views = (65536, 8) if sizes.published else (2048, 2)
        self.model = nn.ModuleDict({"student": self._network()})
        self.model["teacher"] = copy.deepcopy(self.model["student"]).requires_grad_(False)
        self.model.register_buffer("center", torch.zeros(self.prototypes))
        self.encoder = self.model["teacher"][0]

    def _network(self) -> nn.Sequential:
        width, patch_size, depth = (384, 16, 12) if self.sizes.published else (16 * self.sizes.width, 8, 6)
        backbone = networks.VisionTransformer(self.sizes.view, patch_size, width, depth, heads=max(1, width // 64))
        head = {"hidden": 2048, "bottleneck": 256} if self.sizes.published else {}
        return nn.Sequential(backbone, networks.PrototypeHead(width, self.prototypes, **head))

    def recipe(self, candidates: int) -> Recipe:
        recipe = hvs.recipes.dino(
            candidates,
            local_candidates=self.local_views * candidates // 2,
            local_views=self.local_views,
            size=self.sizes.view,
            local_size=96 if self.sizes.published else self.sizes.view // 2,
        )
        return recipe if self.sizes.published else recipe.with_roles(blur=0.0)

    def objective(self) -> hvs.Objective:
        return hvs.objectives.DINO(
            self.model["student"], self.model["teacher"], lambda: self.model.center, self.teacher_temperature, self.student_temperature
        )

    def loss(self, views: Sequence[Tensor], teacher: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            teacher_NK = (self.model["teacher"](torch.cat(list(views[:2]))) if teacher is None else teacher).float()
        student = [self.model["student"](torch.cat(list(part))).float() for part in (views[:2], views[2:]) if part]
        loss = multi_crop_loss(teacher_NK, torch.cat(student), self.model.center, self.teacher_temperature, self.student_temperature)
        self._batch_center = teacher_NK.mean(0)
        return loss

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.model["student"].parameters(), lr=self.sizes.learning_rate, weight_decay=0.04)

    @torch.no_grad()
    def after_step(self) -> None:
        self.model.center.lerp_(self._batch_center, 1 - self.center_momentum)
        for mine, its in zip(self.model["teacher"].parameters(), self.model["student"].parameters(), strict=True):
            mine.lerp_(its, 1 - self.momentum)


def multi_crop_loss(teacher_NK: Tensor, student_NK: Tensor, center_K: Tensor, teacher_temperature: float, temperature: float) -> Tensor:
    """DINO's loss, the mean over all pairs of a teacher's view and another one of the student's.

    Args:
        teacher_NK: logits of two views, [2 B, K], view by view.
        student_NK: logits of the same views and the local ones after them.
        center_K, teacher_temperature, temperature: of the teacher, and the student's.
    """
    target_2BK = F.softmax((teacher_NK - center_K) / teacher_temperature, dim=-1).unflatten(0, (2, -1))
    images = target_2BK.shape[1]
    log_VBK = F.log_softmax(student_NK / temperature, dim=-1).unflatten(0, (-1, images))
    terms = [-(target_BK * log_BK).sum(-1).mean() for t, target_BK in enumerate(target_2BK) for s, log_BK in enumerate(log_VBK) if s != t]
    return torch.stack(terms).mean()


METHODS: dict[str, type[Method]] = {"simsiam": SimSiam, "simclr": SimCLR, "byol": BYOL, "dino": DINO}


def build(name: str, sizes: Sizes, seed: int) -> Method:
    """A method with new weights, the same ones for the same seed."""
    torch.manual_seed(seed)
    method = METHODS[name](sizes)
    method.model.train().to(memory_format=torch.channels_last)
    return method


def described(method: Method) -> dict[str, Any]:
    """What a result says of a network."""
    return {"parameters": sum(weight.numel() for weight in method.encoder.parameters())}
