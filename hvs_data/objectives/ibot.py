"""iBOT (Zhou et al. 2022, arXiv 2111.07832): DINO between views, and masked image modelling within each global view."""

# Axes: N image of a forward, B image, T global view, L local view, P patch, K prototype, G side of a grid of patches.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvs_data.arguments.values import real_number
from hvs_data.errors import SelectionError
from hvs_data.kernels.pair_scores.cross_entropy.blocks import cross_entropy_rows
from hvs_data.kernels.pair_scores.cross_entropy.table import cross_entropy_table
from hvs_data.objectives.additive import AdditiveObjective
from hvs_data.objectives.dino import number_of_terms
from hvs_data.objectives.networks import Center, Network, checked_center, checked_logits, checked_network, current_center, run
from hvs_data.objectives.parts import Number, checked_number, current_number, describe


class IBOT(AdditiveObjective):
    """iBOT's loss: ``lambda1`` times DINO's loss of the class tokens + ``lambda2`` times the masked patches' loss of both global views.

    A global view's patch loss is the mean over its masked patches of ``CE(q_p, p_p)`` between the teacher's and the student's
    output for patch p, 0 for a view without masked patches; the student sees global views masked, the teacher whole, and local views
    have no masks. The mean over a batch is the published loss (github.com/bytedance/ibot) for the same outputs.

    Masks are rows of the candidates (``recipes.ibot(masking=Masking())``): each belongs to its view, and those of the chosen views are
    in ``batch.masks``.

    Args:
        student, teacher: modules or functions from pixels [N, 3, S, S] to ``(class logits [N, K], patch logits [N, P, K'])``, as the
            official MultiCropWrapper with its head, whether or not class and patches share one; or parts one after the other. The
            student is called with ``mask=`` bool [N, G, G] for global views.
        center, patch_center: of the teacher's class and patch logits, with K and K' elements, as DINO's ``center``. The official loss
            replaces both at each update: pass ``lambda: ibot_loss.center`` and ``lambda: ibot_loss.center2``.
        teacher_temperature, teacher_patch_temperature, student_temperature: numbers, or functions that return the current ones.
        lambda1, lambda2: weights of the two losses, at least 0.
        local_student: what is called for local views, if not the student without a mask; it returns class logits, alone or first. While
            the student itself is called so, its backbone's ``masked_im_modeling`` is off, as in the official loop.
        patch_size: in pixels; needed where views are scored smaller than the masks' grid is made for. A patch of the smaller grid is
            masked if half of its area is.
        modules: modules that these functions use and do not show; scoring protects them, too.

    Raises:
        SelectionError: an argument of another kind; while scoring, candidates without masks, or outputs of another shape.
    """

    extras = ("mask",)

    any_globals = True
    _read_only = ("center", "patch_center", "teacher_temperature", "teacher_patch_temperature", "student_temperature")

    def __init__(
        self,
        student: Network,
        teacher: Network,
        center: Center,
        patch_center: Center,
        teacher_temperature: Number,
        teacher_patch_temperature: Number,
        student_temperature: Number = 0.1,
        *,
        lambda1: float = 1.0,
        lambda2: float = 1.0,
        local_student: Network | None = None,
        patch_size: int | None = None,
        modules: Sequence[nn.Module] = (),
    ):
        self.student = checked_network("iBOT", "student", student)
        self.teacher = checked_network("iBOT", "teacher", teacher)
        self.local_student = None if local_student is None else checked_network("iBOT", "local_student", local_student)
        self.center = checked_center("iBOT", "center", center)
        self.patch_center = checked_center("iBOT", "patch_center", patch_center)
        self.teacher_temperature = checked_number("teacher_temperature", teacher_temperature)
        self.teacher_patch_temperature = checked_number("teacher_patch_temperature", teacher_patch_temperature)
        self.student_temperature = checked_number("student_temperature", student_temperature)
        for name, value in (("lambda1", lambda1), ("lambda2", lambda2)):
            number = real_number(value)
            if number is None or not number >= 0:
                raise SelectionError(f"{name} must be a number of at least 0, got {value!r}; it is the weight of a part of the loss")
        self.lambda1, self.lambda2 = float(lambda1), float(lambda2)
        self.patch_size = patch_size
        self.used_modules = tuple(modules)

    def encode(self, pixels: Tensor, mask: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:  # type: ignore[override]
        """Global views [N, 3, S, S] and their masks -> the teacher's (class, patch) logits, and the student's with its masks [N, P]."""
        if self.patch_size is not None:
            mask = masks_on_grid(mask, pixels.shape[-2] // self.patch_size, pixels.shape[-1] // self.patch_size)
        teacher = _class_and_patches("teacher", run(self.teacher, pixels))
        student = _class_and_patches("student", run(self.student, pixels, mask=mask))
        mask_NP = mask.flatten(1)
        if not teacher[1].shape[:2] == student[1].shape[:2] == mask_NP.shape:
            raise SelectionError(
                f"expected one patch output for each of the masks' {list(mask.shape[1:])} patches, got {describe(teacher[1])} of "
                f"the teacher and {describe(student[1])} of the student; give the recipe's masking the model's patch size, and the "
                "objective patch_size= if views are scored smaller"
            )
        return teacher, (*student, mask_NP)

    def encode_local(self, pixels: Tensor) -> Tensor:
        """Local views [N, 3, S, S] -> the student's class logits [N, K]."""
        if self.local_student is not None:
            output = run(self.local_student, pixels)
        else:
            with _without_masking(self.student):
                output = run(self.student, pixels)
        output = output[0] if isinstance(output, (tuple, list)) and output else output
        return checked_logits("iBOT", "student", output, "[N, K]")

    def term_table(
        self,
        teacher: tuple[Tensor, Tensor],
        student: tuple[Tensor, Tensor, Tensor],
        local: Tensor | None,
        views: int,
        global_views: int = 2,
    ) -> Tensor:
        """Outputs with first axes [B, T] and [B, L] -> float32 [B, T, T + L]: terms of the class tokens, patch losses on the diagonal."""
        teacher_class, teacher_patch = teacher
        student_class, student_patch, mask_BTP = student
        student_temperature = current_number("student_temperature", self.student_temperature)
        table_BTS = cross_entropy_table(
            teacher_class,
            [student_class] if local is None else [student_class, local],
            current_center("iBOT", "center", self.center, teacher_class.shape[-1]),
            current_number("teacher_temperature", self.teacher_temperature),
            student_temperature,
        )
        patch_TBP = cross_entropy_rows(
            # views first, as the forward left them in memory
            teacher_patch.transpose(0, 1).flatten(0, 2),
            student_patch.transpose(0, 1).flatten(0, 2),
            current_center("iBOT", "patch_center", self.patch_center, teacher_patch.shape[-1]),
            current_number("teacher_patch_temperature", self.teacher_patch_temperature),
            student_temperature,
        ).unflatten(0, mask_BTP.transpose(0, 1).shape)
        patch_BT = patch_TBP.transpose(0, 1).masked_fill(~mask_BTP, 0).sum(-1) / mask_BTP.sum(-1).clamp_min(1)
        same_TS = torch.eye(*table_BTS.shape[1:], dtype=torch.bool, device=table_BTS.device)
        own_BTS = F.pad(torch.diag_embed(patch_BT), (0, table_BTS.shape[2] - table_BTS.shape[1]))
        # the global views make the mean of the patch losses
        terms = number_of_terms(views, global_views)
        return torch.where(same_TS, own_BTS * (self.lambda2 / global_views), table_BTS * (self.lambda1 / terms))


def _class_and_patches(network: str, output: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(output, (tuple, list)) or len(output) != 2:
        raise SelectionError(f"expected iBOT's {network} to return (class logits, patch logits), got {describe(output)}")
    return checked_logits("iBOT", network, output[0], "[N, K]"), checked_logits("iBOT", network, output[1], "[N, P, K]")


def masks_on_grid(mask_NGG: Tensor, height: int, width: int) -> Tensor:
    if mask_NGG.shape[1:] == (height, width):
        return mask_NGG
    return F.adaptive_avg_pool2d(mask_NGG[:, None].to(torch.float32), (height, width))[:, 0] >= 0.5


@contextmanager
def _without_masking(parts: Sequence[Any]) -> Iterator[None]:
    """The official backbone refuses views without a mask while this switch is on."""
    backbones = [getattr(part, "backbone", part) for part in parts]
    on = [backbone for backbone in backbones if getattr(backbone, "masked_im_modeling", False)]
    for backbone in on:
        backbone.masked_im_modeling = False
    try:
        yield
    finally:
        for backbone in on:
            backbone.masked_im_modeling = True
