"""DINOv2 (Oquab et al. 2023, arXiv 2304.07193): DINO between views and masked patches within each, with centring of two kinds."""

# Axes: N image of a forward, B image, T global view, L local view, P patch, R masked patch, D token, K prototype, G side of a grid.

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvs_data.arguments.values import real_number, whole_number
from hvs_data.errors import SelectionError
from hvs_data.kernels.pair_scores.cross_entropy.blocks import cross_entropy_rows
from hvs_data.kernels.pair_scores.cross_entropy.table import cross_entropy_table
from hvs_data.kernels.pair_scores.swapped.blocks import sinkhorn
from hvs_data.objectives.additive import AdditiveObjective
from hvs_data.objectives.base import Owner, unwrapped
from hvs_data.objectives.dino import number_of_terms
from hvs_data.objectives.gather import alone, reduced
from hvs_data.objectives.ibot import masks_on_grid
from hvs_data.objectives.networks import Center, checked_center, checked_logits, current_center
from hvs_data.objectives.parts import Number, checked_number, current_number, describe

CENTERINGS = ("softmax", "sinkhorn")
# Masked patches whose logits exist at a time under softmax centring.
ROWS = 1024


class Branch(NamedTuple):
    """A network with its heads; the class head serves patches, too, where there is no other."""

    backbone: Callable[..., Any]
    class_head: Callable[[Tensor], Tensor]
    patch_head: Callable[[Tensor], Tensor]


class DINOv2(AdditiveObjective):
    """DINOv2's loss: ``class_weight`` times DINO's loss of the class tokens + ``patch_weight`` times the mean over the global views of
    their masked patches' loss, which is iBOT's.

    Targets are the teacher's logits centred by "softmax", ``softmax((logits - center) / teacher_temperature)``, or by "sinkhorn",
    Sinkhorn-Knopp's iteration over the samples of the batch. The latter is made over all global candidates of all images at once, and so
    is the published one (github.com/facebookresearch/dinov2) where the candidates are the two views that are trained on; of more
    candidates, or where the selector's ``chunk`` goes through the images in parts, it stands for that. Under "softmax" the mean over a
    batch is the published loss in any case, less KoLeo's regulariser, which is of a batch and compares no views. Patch heads are called
    for masked patches only. A selector's ``keep_teacher`` keeps class logits and patch tokens.

    Args:
        student, teacher: networks with their heads: a mapping or module with ``backbone``, ``dino_head`` and, if patches have a head of
            their own, ``ibot_head``, as the released code has them; or a tuple ``(backbone, class_head)`` or ``(backbone, class_head,
            patch_head)``. A backbone maps pixels [N, 3, S, S], and of the student's global views a mask, to class token and patch
            tokens: the released ViT (``masks=``, a dict with ``x_norm_clstoken`` and ``x_norm_patchtokens``), Hugging Face's Dinov2 and
            DINOv3 models (``bool_masked_pos=``, ``last_hidden_state``), lightly's ``MaskedVisionTransformerTIMM`` (its ``encode``), or any
            function that returns ``(class [N, D], patches [N, P, D])`` and takes ``mask=`` bool [N, G, G]. DistributedDataParallel wrappers
            are passed by.
        center, patch_center: of the teacher's class and patch logits, as :class:`DINO`'s ``center``; None under "sinkhorn". The released
            loss applies an update of its centre when it is used next: what is read here is the centre before that.
        teacher_temperature, student_temperature: numbers, or functions that return the current ones.
        centering: "softmax" or "sinkhorn".
        iterations: of Sinkhorn-Knopp.
        class_weight, patch_weight: at least 0.
        local_class_weight: what class terms of local views count, global ones' being 1: a number, or a function that returns the current
            one, such as DINOv3's schedule (``reweight_dino_local_loss``).
        masked_share: the largest share of a batch's patches that are masked, so that patch heads are called for no more, without waiting
            for the device: with masks that half of the views have, and of at most half of their patches, .25. Where it is exceeded all
            losses are NaN.
        gather: Sinkhorn-Knopp over the samples of all processes of torch.distributed, as the released code does.
        patch_size: in pixels; needed where views are scored smaller than the masks' grid is made for.
        modules: modules that these functions use and do not show; scoring protects them, too.

    Raises:
        SelectionError: an argument of another kind; while scoring, candidates without masks, or outputs of another shape.
    """

    extras = ("mask",)
    any_globals = True
    _read_only = ("center", "patch_center", "teacher_temperature", "student_temperature", "local_class_weight")

    def __init__(
        self,
        student: Any,
        teacher: Any,
        center: Center,
        patch_center: Center,
        teacher_temperature: Number,
        student_temperature: Number = 0.1,
        *,
        centering: str = "softmax",
        iterations: int = 3,
        class_weight: float = 1.0,
        patch_weight: float = 1.0,
        local_class_weight: Number = 1.0,
        masked_share: float = 0.5,
        gather: bool = False,
        patch_size: int | None = None,
        modules: Sequence[nn.Module] = (),
    ):
        self.student, self.teacher = _branch("student", student), _branch("teacher", teacher)
        self.student_owner, self.teacher_owner = Owner(unwrapped(student)), Owner(unwrapped(teacher))
        self.center = checked_center("DINOv2", "center", center)
        self.patch_center = checked_center("DINOv2", "patch_center", patch_center)
        self.teacher_temperature = checked_number("teacher_temperature", teacher_temperature)
        self.student_temperature = checked_number("student_temperature", student_temperature)
        if centering not in CENTERINGS:
            raise SelectionError(f"centering must be one of {CENTERINGS}, got {centering!r}; it makes targets of the teacher's logits")
        if centering == "sinkhorn" and (center is not None or patch_center is not None):
            raise SelectionError("center and patch_center must be None under centering='sinkhorn', which keeps no centre, got one")
        self.centering = centering
        if (whole_number(iterations) or 0) < 1:
            raise SelectionError(f"iterations must be a whole number of at least 1, got {iterations!r}; the released loss has 3")
        self.iterations = int(iterations)
        self.class_weight = _at_least_0("class_weight", class_weight)
        self.patch_weight = _at_least_0("patch_weight", patch_weight)
        self.local_class_weight = checked_number("local_class_weight", local_class_weight)
        share = real_number(masked_share)
        if share is None or not 0 < share <= 1:
            raise SelectionError(f"masked_share must satisfy 0 < masked_share <= 1, got {masked_share!r}; it is a share of the patches")
        self.masked_share = share
        self.gather = gather
        self.patch_size = patch_size
        self.used_modules = tuple(modules)

    def encode(self, pixels: Tensor, mask: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:  # type: ignore[override]
        """Global views [N, 3, S, S] and their masks -> the teacher's class logits and patch tokens, and the student's with its masks."""
        if self.patch_size is not None:
            mask = masks_on_grid(mask, pixels.shape[-2] // self.patch_size, pixels.shape[-1] // self.patch_size)
        teacher_class, teacher_patch = _tokens(self.teacher.backbone, pixels, None)
        student_class, student_patch = _tokens(self.student.backbone, pixels, mask)
        mask_NP = mask.flatten(1)
        if not teacher_patch.shape[:2] == student_patch.shape[:2] == mask_NP.shape:
            raise SelectionError(
                f"expected one patch token for each of the masks' {list(mask.shape[1:])} patches, got {describe(teacher_patch)} of the "
                f"teacher and {describe(student_patch)} of the student; give the recipe's masking the model's patch size, and the "
                "objective patch_size= if views are scored smaller"
            )
        teacher = checked_logits("DINOv2", "teacher", self.teacher.class_head(teacher_class), "[N, K]")
        student = checked_logits("DINOv2", "student", self.student.class_head(student_class), "[N, K]")
        return (teacher, teacher_patch), (student, student_patch, mask_NP)

    def encode_local(self, pixels: Tensor) -> Tensor:
        """Local views [N, 3, S, S] -> the student's class logits [N, K]."""
        return checked_logits("DINOv2", "student", self.student.class_head(_tokens(self.student.backbone, pixels, None)[0]), "[N, K]")

    def term_table(
        self,
        teacher: tuple[Tensor, Tensor],
        student: tuple[Tensor, Tensor, Tensor],
        local: Tensor | None,
        views: int,
        global_views: int = 2,
    ) -> Tensor:
        """Outputs with first axes [B, T] and [B, L] -> float32 [B, T, T + L]: terms of the class tokens, patch losses on the diagonal."""
        logits_BTK, center_K, temperature = self._targets(teacher[0].flatten(0, 1), "center", self.center)
        table_BTS = cross_entropy_table(
            logits_BTK.view_as(teacher[0]),
            [student[0]] if local is None else [student[0], local],
            center_K,
            temperature,
            current_number("student_temperature", self.student_temperature),
        )
        same_TS = torch.eye(*table_BTS.shape[1:], dtype=torch.bool, device=table_BTS.device)
        terms = number_of_terms(views, global_views)
        table_BTS = table_BTS * (self.class_weight / terms)
        if local is not None:
            table_BTS[..., -local.shape[1] :] *= current_number("local_class_weight", self.local_class_weight)
        patch_BT = self._patch_losses(teacher[1], *student[1:]) * (self.patch_weight / global_views)
        own_BTS = F.pad(torch.diag_embed(patch_BT.to(table_BTS.dtype)), (0, table_BTS.shape[2] - table_BTS.shape[1]))
        return torch.where(same_TS, own_BTS, table_BTS)

    def _targets(self, logits_RK: Tensor, name: str, center: Center) -> tuple[Tensor, Tensor | None, float | Tensor]:
        """Logits, centre and temperature whose softmax are the targets: of codes their logarithms, as a code is its own softmax."""
        temperature = current_number("teacher_temperature", self.teacher_temperature)
        if self.centering == "softmax":
            return logits_RK, current_center("DINOv2", name, center, logits_RK.shape[-1]), temperature
        code_RK = sinkhorn(logits_RK, None, temperature, self.iterations, reduced if self.gather else alone)
        return code_RK.log_(), None, 1.0

    def _patch_losses(self, teacher_BTPD: Tensor, student_BTPD: Tensor, mask_BTP: Tensor) -> Tensor:
        """The mean over each view's masked patches, 0 without any: [B, T]."""
        mask = mask_BTP.flatten()
        # masked patches first, so that their number need not be known
        rows_R = mask.to(torch.uint8).argsort(descending=True, stable=True)[: math.ceil(len(mask) * self.masked_share)]
        masked_R = mask[rows_R]
        teacher_RD, student_RD = (tokens.flatten(0, 2)[rows_R] for tokens in (teacher_BTPD, student_BTPD))
        loss_R = self._losses(teacher_RD, student_RD, masked_R).masked_fill(~masked_R, 0)
        view_R = rows_R // mask_BTP.shape[2]
        sum_BT = loss_R.new_zeros(mask_BTP[..., 0].numel()).index_add_(0, view_R, loss_R).view(mask_BTP.shape[:2])
        too_many = mask.sum() > len(rows_R)
        return (sum_BT / mask_BTP.sum(-1).clamp_min(1)).masked_fill(too_many, float("nan"))

    def _losses(self, teacher_RD: Tensor, student_RD: Tensor, masked_R: Tensor) -> Tensor:
        """Cross-entropies of patches: [R]; anything for those that are not masked."""
        if self.centering == "sinkhorn":
            logits_RK = checked_logits("DINOv2", "teacher's patch head", self.teacher.patch_head(teacher_RD), "[N, K]")
            codes, center, temperature = self._targets(logits_RK.masked_fill(~masked_R[:, None], -torch.inf), "", None)
            parts = zip(codes.split(ROWS), student_RD.split(ROWS), strict=True)
            return torch.cat([self._rows(code_RK, part_RD, center, temperature) for code_RK, part_RD in parts])
        losses = []
        for teacher_rD, student_rD in zip(teacher_RD.split(ROWS), student_RD.split(ROWS), strict=True):
            logits_rK = checked_logits("DINOv2", "teacher's patch head", self.teacher.patch_head(teacher_rD), "[N, K]")
            losses.append(self._rows(logits_rK, student_rD, *self._targets(logits_rK, "patch_center", self.patch_center)[1:]))
        return torch.cat(losses)

    def _rows(self, target_RK: Tensor, student_RD: Tensor, center_K: Tensor | None, temperature: float | Tensor) -> Tensor:
        logits_RK = checked_logits("DINOv2", "student's patch head", self.student.patch_head(student_RD), "[N, K]")
        student_temperature = current_number("student_temperature", self.student_temperature)
        return cross_entropy_rows(target_RK, logits_RK, center_K, temperature, student_temperature)


def _branch(name: str, given: Any) -> Branch:
    if isinstance(given, tuple) and len(given) in (2, 3) and all(map(callable, given)):
        parts = [unwrapped(part) for part in given]
        return Branch(parts[0], parts[1], parts[-1])
    keys = ("backbone", "dino_head", "ibot_head")
    inner = unwrapped(given)
    holds = isinstance(inner, (Mapping, nn.ModuleDict))
    found = {key: unwrapped(inner[key] if holds and key in inner else getattr(inner, key, None)) for key in keys}
    if not all(callable(found[key]) for key in keys[:2]):
        raise SelectionError(
            f"expected DINOv2's {name}= with a backbone, a dino_head and perhaps an ibot_head, or (backbone, class_head) or (backbone, "
            f"class_head, patch_head), got {describe(given)}; pass the parts as a tuple"
        )
    return Branch(found["backbone"], found["dino_head"], found["ibot_head"] or found["dino_head"])


def _tokens(backbone: Callable[..., Any], pixels: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Class token [N, D] and patch tokens [N, P, D] of views, some of whose patches are hidden."""
    encode: Any = getattr(backbone, "encode", None)
    if isinstance(backbone, nn.Module) and hasattr(backbone, "mask_token") and callable(encode):  # lightly
        prefix = getattr(getattr(backbone, "vit", None), "num_prefix_tokens", 1)
        tokens = encode(pixels, mask=None if mask is None else F.pad(mask.flatten(1), (prefix, 0)))
        return tokens[:, 0], tokens[:, prefix:]
    names = _parameters(backbone)
    options: dict[str, Any] = {"is_training": True} if "is_training" in names else {}
    if mask is not None and "masks" in names:
        options["masks"] = mask.flatten(1)
    elif mask is not None and "bool_masked_pos" in names:
        options["bool_masked_pos"] = mask.flatten(1)
    elif mask is not None:
        options["mask"] = mask
    output = backbone(pixels, **options)
    if isinstance(output, Mapping) and "x_norm_clstoken" in output:
        return output["x_norm_clstoken"], output["x_norm_patchtokens"]
    hidden = getattr(output, "last_hidden_state", None)
    if isinstance(hidden, Tensor) and hidden.ndim == 3:
        registers = getattr(getattr(backbone, "config", None), "num_register_tokens", 0)
        return hidden[:, 0], hidden[:, 1 + registers :]
    shapes = [part.ndim if isinstance(part, Tensor) else 0 for part in output] if isinstance(output, (tuple, list)) else []
    if shapes != [2, 3]:
        raise SelectionError(
            "expected a backbone that returns (class token [N, D], patch tokens [N, P, D]), a dict with x_norm_clstoken and "
            f"x_norm_patchtokens, or an output with last_hidden_state, got {describe(output)}; pass a function that returns the first"
        )
    return output[0], output[1]


def _parameters(backbone: Callable[..., Any]) -> frozenset[str]:
    """Names of a backbone's arguments; none where they cannot be told. Of the released ViT, whose forward hands all on, those behind it."""
    functions = (
        [getattr(backbone, name, None) for name in ("forward", "forward_features")] if isinstance(backbone, nn.Module) else [backbone]
    )
    found: set[str] = set()
    for function in filter(callable, functions):
        try:
            found |= set(inspect.signature(function).parameters)
        except (TypeError, ValueError):
            continue
    return frozenset(found)


def _at_least_0(name: str, value: Any) -> float:
    number = real_number(value)
    if number is None or not number >= 0:
        raise SelectionError(f"{name} must be a number of at least 0, got {value!r}; it is the weight of a part of the loss")
    return number
