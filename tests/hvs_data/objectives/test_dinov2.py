"""DINOv2 against the formulas of the released code in float64, over all combinations of views with their masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
from lightly.loss import DINOLoss, IBOTPatchLoss
from lightly.models.modules import DINOv2ProjectionHead, MaskedVisionTransformerTIMM
from torch import Tensor, nn

import hvs_data as hvs
from distillers import (
    MASKED_RECIPE,
    PATCH,
    PATCH_PROTOTYPES,
    PROTOTYPES,
    WIDTH,
    ReleasedViT,
    dino_loss,
    patch_loss,
    quiet,
    rounding,
    with_heads,
)
from hvs_data import SelectionError
from hvs_data.objectives import DINOv2
from hvs_data.recipes import Masking
from multi_crop import every_combination, make_pixels, make_recipe, make_rows

TEACHER, STUDENT = 0.07, 0.1


def make(dtype: torch.dtype = torch.float64, shared: bool = False, **options: Any) -> DINOv2:
    torch.manual_seed(1)
    student, teacher = (with_heads(shared).to(dtype) for _ in range(2))
    centers: list[Tensor | None] = [torch.randn(1, PROTOTYPES, dtype=dtype) * 0.1]
    centers.append(torch.randn(1, 1, PROTOTYPES if shared else PATCH_PROTOTYPES, dtype=dtype) * 0.1)
    centers = [None, None] if options.get("centering") == "sinkhorn" else centers
    return DINOv2(student, teacher, *centers, TEACHER, STUDENT, **options)


def outputs_of(objective: DINOv2, pixels: list[Tensor], masks: list[Tensor]) -> tuple[list[Any], list[Any], list[Tensor]]:
    """(class, patch) logits of each global view by teacher and student, all patches, and class logits of each local view."""
    student, teacher = objective.student, objective.teacher

    def both(branch: Any, view: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        tokens = branch.backbone(view, is_training=True, masks=None if mask is None else mask.flatten(1))
        return branch.class_head(tokens["x_norm_clstoken"]), branch.patch_head(tokens["x_norm_patchtokens"])

    with quiet(nn.ModuleList([student.backbone, teacher.backbone])):
        teachers = [both(teacher, view) for view in pixels[: len(masks)]]
        students = [both(student, view, mask) for view, mask in zip(pixels, masks, strict=False)]
        local = [both(student, view)[0] for view in pixels[len(masks) :]]
    return teachers, students, local


def sinkhorn_knopp(logits_NK: Tensor, iterations: int = 3) -> Tensor:
    """As sinkhorn_knopp_teacher of the released losses, of one process: prototypes in rows."""
    assignment = (logits_NK / TEACHER).exp().T
    assignment = assignment / assignment.sum()
    for _ in range(iterations):
        assignment = assignment / assignment.sum(1, keepdim=True) / assignment.shape[0]
        assignment = assignment / assignment.sum(0, keepdim=True) / assignment.shape[1]
    return (assignment * assignment.shape[1]).T


def against_code(target: Tensor, student: Tensor) -> Tensor:
    return -(target * (student / STUDENT).log_softmax(-1)).sum(-1)


@pytest.mark.parametrize("shared", [False, True], ids=["two heads", "one head"])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.3, 2.0, 1.0), (1.0, 0.5, 0.4)], ids=str)
def test_the_choice_is_the_hardest_of_all_combinations(shared: bool, weights: tuple[float, float, float]) -> None:
    """The weights of class terms, of patches, and of local views' class terms."""
    images, objective = 100, make(shared=shared, class_weight=weights[0], patch_weight=weights[1], local_class_weight=lambda: weights[2])
    pixels, rows = make_pixels(MASKED_RECIPE, images, dtype=torch.float64), make_rows(MASKED_RECIPE, images)
    selection = hvs.HardViewSelector(objective).select(pixels, rows)
    masks = list(rows.mask[:, :4].unbind(1))
    teachers, students, local = outputs_of(objective, pixels, masks)
    combinations = every_combination(MASKED_RECIPE)
    columns = []
    for c in combinations:
        one, two = ([outputs[slot] for slot in c[:2]] for outputs in (teachers, students))
        of_classes, of_patches = ([[o[kind] for o in part] for part in (one, two)] for kind in (0, 1))
        of_classes[1] += [local[slot - 4] for slot in c[2:]]
        terms = 2 * (len(c) - 1)
        among_globals = 2 / terms * dino_loss(of_classes[0], of_classes[1][:2], objective.center, TEACHER, STUDENT)
        classes = among_globals + weights[2] * (dino_loss(*of_classes, objective.center, TEACHER, STUDENT) - among_globals)
        patches = patch_loss(*of_patches, [masks[slot] for slot in c[:2]], objective.patch_center, TEACHER, STUDENT)
        columns.append(weights[0] * classes + weights[1] * patches)
    losses = torch.stack(columns, dim=1)
    largest = max(float(o.abs().max()) for part in (teachers, students) for both in part for o in both)
    bound = sum(weights) * rounding(TEACHER, STUDENT, largest, PROTOTYPES) * 2.0**-20  # in float64, networks included
    taken = torch.tensor([combinations.index(tuple(slots)) for slots in selection.slots.tolist()])
    assert (losses.amax(1) - losses[torch.arange(images), taken]).max() <= 2 * bound
    np.testing.assert_allclose(selection.loss, losses.amax(1), rtol=2.0**-23, atol=bound)


def test_under_sinkhorn_the_mean_over_a_batch_is_the_released_loss_of_the_two_views() -> None:
    recipe = make_recipe(("global1", "global2"), masking=Masking(patch_size=PATCH, ratio=(0.0, 0.4), variance=(0.0, 0.2)))
    images, objective = 60, make(centering="sinkhorn")
    pixels, rows = make_pixels(recipe, images, dtype=torch.float64), make_rows(recipe, images)
    masks = list(rows.mask[:, :2].unbind(1))
    selection = hvs.HardViewSelector(objective).select(pixels, rows)
    teachers, students, local = outputs_of(objective, pixels, masks)
    local = [torch.stack([local[slot - 2][b] for b, slot in enumerate(column)]) for column in selection.slots[:, 2:].unbind(1)]
    codes = sinkhorn_knopp(torch.cat([teacher[0] for teacher in teachers])).chunk(2)
    views = [*(student[0] for student in students), *local]
    terms = [against_code(codes[t], view) for t in range(2) for s, view in enumerate(views) if s != t]
    hidden = torch.cat(masks).flatten(1)
    patch_codes = sinkhorn_knopp(torch.cat([teacher[1] for teacher in teachers])[hidden])
    patches = torch.zeros(hidden.shape, dtype=torch.float64)
    patches[hidden] = against_code(patch_codes, torch.cat([student[1] for student in students])[hidden])
    expected = torch.stack(terms).mean(0) + (patches.sum(1) / hidden.sum(1).clamp_min(1)).view(2, -1).mean(0)
    # codes are float32: each of 6 normalisations adds 2 (K + N) units of 2**-24 at most to what they are relative to, of losses below 20
    samples = int(hidden.sum()) + PROTOTYPES
    np.testing.assert_allclose(selection.loss, expected, rtol=0, atol=20 * 12 * samples * 2.0**-24)


def test_a_view_without_masked_patches_has_no_patch_loss() -> None:
    for centering in ("softmax", "sinkhorn"):
        objective = make(centering=centering)
        mask = torch.zeros(6, 4, 4, dtype=torch.bool)
        mask[0, 0] = True
        outputs = objective.encode(torch.randn(6, 3, 8, 8, dtype=torch.float64), mask=mask)
        by_image = [tuple(output.unflatten(0, (3, 2)) for output in part) for part in outputs]
        own = objective.term_table(*by_image, None, 2).diagonal(dim1=1, dim2=2)
        assert own[0, 0] > 0 and not own.flatten()[1:].any()


@pytest.mark.parametrize("centering", ["softmax", "sinkhorn"])
def test_more_masked_patches_than_were_said_are_told_by_nan(centering: str) -> None:
    objective = make(centering=centering, masked_share=0.25)
    for share, finite in ((0.25, True), (0.3125, False)):
        mask = torch.zeros(4, 16, dtype=torch.bool)
        mask[:, : int(16 * share)] = True
        outputs = objective.encode(torch.randn(4, 3, 8, 8, dtype=torch.float64), mask=mask.view(4, 4, 4))
        by_image = [tuple(output.unflatten(0, (2, 2)) for output in part) for part in outputs]
        own = objective.term_table(*by_image, None, 2).diagonal(dim1=1, dim2=2)
        assert bool(own.isfinite().all()) is finite


def test_what_is_not_masked_does_not_count() -> None:
    objective = make()
    mask = torch.rand(4, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.4
    (logits, tokens), student = objective.encode(torch.randn(4, 3, 8, 8, dtype=torch.float64), mask=mask)
    tokens[~mask.flatten(1)] = torch.nan
    by_image = [tuple(output.unflatten(0, (2, 2)) for output in part) for part in ((logits, tokens), student)]
    assert objective.term_table(*by_image, None, 2).isfinite().all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"centering": "center"}, "centering must be one of"),
        ({"iterations": 0}, "iterations must be a whole number of at least 1, got 0"),
        ({"masked_share": 0}, "masked_share must satisfy 0 < masked_share <= 1"),
        ({"patch_weight": -1}, "patch_weight must be a number of at least 0"),
        ({"centering": "sinkhorn", "center": torch.zeros(PROTOTYPES)}, "must be None under centering='sinkhorn'"),
        ({"student": nn.Identity()}, "expected DINOv2's student= with a backbone, a dino_head"),
    ],
)
def test_what_means_nothing_is_refused(change: dict[str, Any], words: str) -> None:
    arguments = {"student": with_heads(), "teacher": with_heads(), "center": None, "patch_center": None, "teacher_temperature": TEACHER}
    with pytest.raises(SelectionError, match=words):
        DINOv2(**{**arguments, **change})


# ---- backbones of others ----


@pytest.mark.parametrize("kind", ["Dinov2Model", "Dinov2WithRegistersModel", "DINOv3ViTModel"])
def test_hugging_face_models_need_no_wrapper(kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    model = getattr(transformers, kind)
    sizes = {"hidden_size": WIDTH * 4, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 8, "patch_size": PATCH}
    torch.manual_seed(0)
    branch = (model(model.config_class(**sizes)).eval(), nn.Linear(WIDTH * 4, PROTOTYPES))
    objective = DINOv2(branch, branch, None, None, TEACHER)
    pixels, mask = torch.randn(6, 3, 8, 8), torch.rand(6, 4, 4) < 0.4
    (teacher, teacher_patch), (student, student_patch, _) = objective.encode(pixels, mask=mask)
    assert teacher.shape == student.shape == (6, PROTOTYPES) and teacher_patch.shape == student_patch.shape == (6, 16, WIDTH * 4)
    hidden = branch[0](pixels).last_hidden_state
    assert torch.equal(teacher_patch, hidden[:, -16:]) and torch.equal(teacher, branch[1](hidden[:, 0]))
    assert not torch.allclose(student_patch, teacher_patch)


def test_functions_of_pixels_and_mask_do() -> None:
    torch.manual_seed(0)
    backbone = ReleasedViT()

    def tokens(pixels: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        output = backbone(pixels, is_training=True, masks=None if mask is None else mask.flatten(1))
        return output["x_norm_clstoken"], output["x_norm_patchtokens"]

    head = nn.Linear(WIDTH, PROTOTYPES)
    one, other = (DINOv2((its, head), (its, head), None, None, TEACHER) for its in (backbone, tokens))
    pixels, mask = torch.randn(4, 3, 8, 8), torch.rand(4, 4, 4) < 0.4
    for a, b in zip(one.encode(pixels, mask=mask), other.encode(pixels, mask=mask), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert backbone in other.modules()


@pytest.mark.parametrize("registers", [0, 2])
@torch.no_grad()
def test_the_mean_over_a_batch_is_lightlys_loss_of_its_masked_transformer(registers: int) -> None:
    """timm's transformer in lightly's wrapper, as in its example of DINOv2, with its heads and criteria."""
    torch.manual_seed(0)
    side, patch = 32, 8

    def network() -> tuple[Any, nn.Module, nn.Module]:
        options = {"patch_size": patch, "embed_dim": 16, "depth": 1, "num_heads": 2, "reg_tokens": registers, "dynamic_img_size": True}
        backbone = MaskedVisionTransformerTIMM(timm.create_model("vit_tiny_patch16_224", img_size=side, **options))
        nn.init.normal_(backbone.mask_token)
        heads = [DINOv2ProjectionHead(16, hidden_dim=16, bottleneck_dim=8, output_dim=length) for length in (PROTOTYPES, PATCH_PROTOTYPES)]
        return backbone.eval(), *heads

    student, teacher = network(), network()
    criteria = DINOLoss(PROTOTYPES, teacher_temp=TEACHER), IBOTPatchLoss(PATCH_PROTOTYPES, teacher_temp=TEACHER)
    criteria[0].center += torch.randn(PROTOTYPES) * 0.1
    criteria[1].center.value.add_(torch.randn(PATCH_PROTOTYPES) * 0.1)
    centers = criteria[0].center.clone(), criteria[1].center.value.clone()  # both criteria move theirs
    recipe = make_recipe(("global1", "global2"), locals_=3, chosen=3, sides=(side, 16), masking=Masking(patch_size=patch))
    pixels, rows = make_pixels(recipe, 40), make_rows(recipe, 40)
    selection = hvs.HardViewSelector(DINOv2(student, teacher, *centers, TEACHER, STUDENT)).select(pixels, rows)

    pixels = [torch.stack([pixels[slot][image] for image, slot in enumerate(column)]) for column in selection.slots.T.tolist()]
    globals_, blocks = torch.cat(pixels[:2]), torch.cat(list(rows.mask[:, :2].unbind(1)))
    mask = torch.zeros(len(globals_), student[0].sequence_length, dtype=torch.bool)
    mask[:, 1 + registers :] = blocks.flatten(1)
    seen_by_teacher, seen = teacher[0].encode(globals_), student[0].encode(globals_, mask=mask)
    local = student[0].encode(torch.cat(pixels[2:]))[:, 0]
    of_classes = criteria[0](teacher[1](seen_by_teacher[:, 0]).chunk(2), student[1](torch.cat([seen[:, 0], local])).chunk(5))
    of_patches = criteria[1](teacher[2](seen_by_teacher[mask]), student[2](seen[mask]), blocks)
    # logits are at most 1, as heads have prototypes and tokens of length 1; lightly takes its temperatures as float32
    bound = 2 * rounding(TEACHER, STUDENT, 1.1, PROTOTYPES)
    assert float(selection.loss.mean()) == pytest.approx(float(of_classes + of_patches), abs=bound)
