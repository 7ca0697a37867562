"""The benches' methods of a student and a teacher: DINO, and DINOv2 with masked patches."""

# Axes: B image, N image of a forward, V view, S side, P patch, R masked patch, F feature, K prototype.

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hvs_data as hvs
from harness.pretraining import networks
from harness.pretraining.method import Method, Sizes
from hvs_data.recipes.spec import Recipe


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
        self.encoder = self._encoder(self.model["teacher"])

    def _network(self) -> nn.Module:
        return nn.Sequential(*self._parts(networks.VisionTransformer))

    def _encoder(self, network: Any) -> nn.Module:
        return network[0]

    @property
    def patch_size(self) -> int:
        return 16 if self.sizes.published else 8

    def _parts(self, kind: type[networks.VisionTransformer]) -> tuple[networks.VisionTransformer, networks.PrototypeHead]:
        width, depth = (384, 12) if self.sizes.published else (16 * self.sizes.width, 6)
        backbone = kind(self.sizes.view, self.patch_size, width, depth, heads=max(1, width // 64))
        head = {"hidden": 2048, "bottleneck": 256} if self.sizes.published else {}
        return backbone, networks.PrototypeHead(width, self.prototypes, **head)

    def recipe(self, candidates: int) -> Recipe:
        return self._small(hvs.recipes.dino(candidates, **self._views(candidates)))

    def _views(self, candidates: int) -> dict[str, int]:
        local_size = 96 if self.sizes.published else self.sizes.view // 2
        local_views = self.local_views
        return {
            "local_candidates": local_views * candidates // 2,
            "local_views": local_views,
            "size": self.sizes.view,
            "local_size": local_size,
        }

    def _small(self, recipe: Recipe) -> Recipe:
        return recipe if self.sizes.published else recipe.with_roles(blur=0.0)

    def objective(self) -> hvs.Objective:
        return hvs.objectives.DINO(
            self.model["student"], self.model["teacher"], lambda: self.model.center, self.teacher_temperature, self.student_temperature
        )

    def loss(self, views: Sequence[Tensor], teacher: Any = None) -> Tensor:
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


class DINOv2(DINO):
    """DINOv2 (Oquab et al. 2023, arXiv 2304.07193) on DINO's networks: one head for class and patch tokens, softmax centring, no KoLeo."""

    masked = True

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        self.model.register_buffer("patch_center", torch.zeros(self.prototypes))

    def _network(self) -> nn.Module:
        backbone, head = self._parts(networks.MaskedVisionTransformer)
        return nn.ModuleDict({"backbone": backbone, "dino_head": head})

    def _encoder(self, network: Any) -> nn.Module:
        return networks.ClassToken(network["backbone"])

    def recipe(self, candidates: int) -> Recipe:
        masking = hvs.recipes.Masking(self.patch_size)
        return self._small(hvs.recipes.dinov2(candidates, masking=masking, **self._views(candidates)))

    def objective(self) -> hvs.Objective:
        its = self.model
        temperatures = self.teacher_temperature, self.student_temperature
        centers = (lambda: its.center), (lambda: its.patch_center)
        return hvs.objectives.DINOv2(its["student"], its["teacher"], *centers, *temperatures, patch_size=self.patch_size)

    def loss(self, views: Sequence[Tensor], teacher: Any = None, masks: Sequence[Tensor] = ()) -> Tensor:
        student, globals_ = self.model["student"], torch.cat(list(views[:2]))
        mask_NP = torch.cat(list(masks)).flatten(1).to(globals_.device)
        with torch.no_grad():
            teacher_NK, teacher_NPF = self._taught(globals_) if teacher is None else teacher
            target_RK = self.model["teacher"]["dino_head"](teacher_NPF[mask_NP]).float()
        class_NF, patch_NPF = student["backbone"](globals_, mask_NP)
        classes = [class_NF, *(student["backbone"](torch.cat(list(part)))[0] for part in (views[2:],) if part)]
        logits = torch.cat([student["dino_head"](tokens).float() for tokens in classes])
        temperatures = self.teacher_temperature, self.student_temperature
        loss = multi_crop_loss(teacher_NK.float(), logits, self.model.center, *temperatures)
        predicted_RK = student["dino_head"](patch_NPF[mask_NP]).float()
        self._batch_center = teacher_NK.float().mean(0)
        self._batch_patch_center = target_RK.mean(0) if len(target_RK) else self.model.patch_center
        return loss + patch_loss(target_RK, predicted_RK, mask_NP, self.model.patch_center, *temperatures)

    def _taught(self, globals_: Tensor) -> tuple[Tensor, Tensor]:
        its = self.model["teacher"]
        class_NF, patch_NPF = its["backbone"](globals_)
        return its["dino_head"](class_NF), patch_NPF

    @torch.no_grad()
    def after_step(self) -> None:
        super().after_step()
        self.model.patch_center.lerp_(self._batch_patch_center, 1 - self.center_momentum)


def patch_loss(
    target_RK: Tensor, predicted_RK: Tensor, mask_NP: Tensor, center_K: Tensor, teacher_temperature: float, temperature: float
) -> Tensor:
    """iBOT's loss of masked patches: the mean over views of the mean over each one's masked patches, 0 for a view without any."""
    target_RK = F.softmax((target_RK - center_K) / teacher_temperature, dim=-1)
    loss_R = -(target_RK * F.log_softmax(predicted_RK / temperature, dim=-1)).sum(-1)
    share_NP = mask_NP / mask_NP.sum(1, keepdim=True).clamp_min(1)
    return (loss_R * share_NP[mask_NP]).sum() / len(mask_NP)
