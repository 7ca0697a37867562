"""iBOT against lightly's losses and the published formula in float64, over all combinations of views with their masks."""

import numpy as np
import pytest
import torch
from lightly.loss import DINOLoss, IBOTPatchLoss
from torch import nn

import hvs_data as hvs
from distillers import (
    MASKED_RECIPE,
    PATCH,
    PATCH_PROTOTYPES,
    PROTOTYPES,
    RECIPE,
    MaskedHead,
    MaskedMultiCrop,
    PatchBackbone,
    chosen,
    dino_loss,
    patch_loss,
    quiet,
    rounding,
)
from hvs_data import SelectionError
from hvs_data.objectives import IBOT
from hvs_data.recipes import Masking
from multi_crop import every_combination, make_pixels, make_recipe, make_rows


def make_objective(dtype=torch.float64, shared=False, **options):
    torch.manual_seed(1)
    student, teacher = (MaskedMultiCrop(PatchBackbone(masked), MaskedHead(shared)).to(dtype) for masked in (True, False))
    center = torch.randn(1, PROTOTYPES, dtype=dtype) * 0.1
    patch_center = torch.randn(1, 1, PROTOTYPES if shared else PATCH_PROTOTYPES, dtype=dtype) * 0.1
    return IBOT(student, teacher, center, patch_center, 0.04, 0.07, **options)


def outputs_of(objective, pixels, masks):
    """(class, patch) logits of each global view by teacher and student, and class logits of each local view."""
    student, teacher = objective.student[0], objective.teacher[0]
    with quiet(nn.ModuleList([student, teacher])):
        teachers = [teacher(view) for view in pixels[: len(masks)]]
        students = [student(view, mask=mask) for view, mask in zip(pixels, masks, strict=False)]
        student.backbone.masked_im_modeling = False
        local = [student(view)[0] for view in pixels[len(masks) :]]
        student.backbone.masked_im_modeling = True
    return teachers, students, local


def loss_of(objective, teachers, students, local, masks, weights=(1.0, 1.0)):
    """The published loss of two global views and local ones, before its mean over the batch: float64 [B]."""
    classes = dino_loss([output[0] for output in teachers], [*(output[0] for output in students), *local], objective.center)
    patches = patch_loss([output[1] for output in teachers], [output[1] for output in students], masks, objective.patch_center)
    return weights[0] * classes + weights[1] * patches


def largest(*parts):
    return max(
        float(tensor.abs().max()) for part in parts for output in part for tensor in (output if isinstance(output, tuple) else [output])
    )


@pytest.mark.parametrize("shared", [False, True], ids=["two heads", "one head"])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.3, 2.0), (1.0, 0.0), (0.0, 1.0)], ids=str)
def test_the_choice_is_the_hardest_of_all_combinations(shared, weights):
    """Four global candidates of two roles with their masks and seven local ones, of which three are chosen, for 200 images."""
    images, objective = 200, make_objective(shared=shared, lambda1=weights[0], lambda2=weights[1])
    pixels, rows = make_pixels(MASKED_RECIPE, images, dtype=torch.float64), make_rows(MASKED_RECIPE, images)
    selection = hvs.HardViewSelector(objective).select(pixels, rows)
    masks = list(rows.mask[:, :4].unbind(1))
    assert not rows.mask[:, :4].flatten(2).any(2).all() and rows.mask.any()
    teachers, students, local = outputs_of(objective, pixels, masks)
    combinations = every_combination(MASKED_RECIPE)
    losses = torch.stack(
        [
            loss_of(
                objective,
                [teachers[slot] for slot in c[:2]],
                [students[slot] for slot in c[:2]],
                [local[slot - 4] for slot in c[2:]],
                [masks[slot] for slot in c[:2]],
                weights,
            )
            for c in combinations
        ],
        dim=1,
    )
    bound = sum(weights) * rounding(0.04, 0.1, largest(teachers, students, local), PROTOTYPES) * 2.0**-20  # in float64, networks included
    best = losses.amax(1)
    taken = torch.tensor([combinations.index(tuple(slots)) for slots in selection.slots.tolist()])
    assert (best - losses[torch.arange(images), taken]).max() <= 2 * bound
    np.testing.assert_allclose(selection.loss, best, rtol=2.0**-24, atol=bound)
    if weights[0] > 0:
        assert torch.equal(taken, losses.argmax(1))


def test_the_mean_over_a_batch_is_lightlys_loss():
    images, objective = 40, make_objective(lambda1=0.7, lambda2=1.3)
    pixels, rows = make_pixels(MASKED_RECIPE, images, dtype=torch.float64), make_rows(MASKED_RECIPE, images)
    selector = hvs.HardViewSelector(objective)
    views = selector(pixels, rows)
    masks = hvs.Batch(views, torch.zeros(images), torch.zeros(images), rows, selection=selector.last).masks
    teachers, students, local = outputs_of(objective, views, masks)

    classes = DINOLoss(PROTOTYPES, teacher_temp=0.04).double()
    classes.center.copy_(objective.center[None])
    patches = IBOTPatchLoss(PATCH_PROTOTYPES, teacher_temp=0.07).double()
    patches.center.center.copy_(objective.patch_center[0])
    hidden = torch.cat(masks)
    expected = 0.7 * classes([output[0] for output in teachers], [*(output[0] for output in students), *local])
    of_patches = [torch.cat([output[1] for output in outputs])[hidden.flatten(1)] for outputs in (teachers, students)]
    expected += 1.3 * patches(*of_patches, hidden)
    # lightly takes its temperatures as float32
    assert abs(float(selector.last.loss.mean() - expected)) <= 2 * rounding(0.04, 0.1, largest(teachers, students, local), PROTOTYPES)


def test_a_view_without_masked_patches_has_no_patch_loss():
    objective = make_objective()
    outputs = objective.encode(torch.randn(4, 3, 8, 8, dtype=torch.float64), mask=torch.zeros(4, 4, 4, dtype=torch.bool))
    by_image = [tuple(output.unflatten(0, (2, 2)) for output in part) for part in outputs]
    table = objective.term_table(*by_image, None, 2)
    assert torch.equal(table.diagonal(dim1=1, dim2=2), torch.zeros(2, 2, dtype=torch.float64)) and table.isfinite().all()


def test_what_is_not_masked_does_not_count():
    objective = make_objective()
    mask = torch.rand(4, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    teacher, student = objective.encode(torch.randn(4, 3, 8, 8, dtype=torch.float64), mask=mask)
    teacher[1][~mask.flatten(1)] = torch.nan
    by_image = [tuple(output.unflatten(0, (2, 2)) for output in part) for part in (teacher, student)]
    assert objective.term_table(*by_image, None, 2).isfinite().all()


# ---- masks belong to their views ----


class Recorder(IBOT):
    """Keeps the masks of every forward."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.seen = []

    def encode(self, pixels, mask):
        self.seen.append((pixels, mask))
        return super().encode(pixels, mask)


@pytest.mark.parametrize("options", [{}, {"chunk": 3}, {"chunk": 30}, {"bn": "per_view"}], ids=str)
def test_every_view_is_encoded_with_its_own_mask(options):
    images = 6
    plain = make_objective()
    objective = Recorder(plain.student, plain.teacher, plain.center, plain.patch_center, 0.04, 0.07)
    pixels, rows = make_pixels(MASKED_RECIPE, images, dtype=torch.float64), make_rows(MASKED_RECIPE, images)
    hvs.HardViewSelector(objective, **options).select(pixels, rows)
    encoded = [(view, mask) for views, masks in objective.seen for view, mask in zip(views, masks, strict=True)]
    assert len(encoded) == 4 * images
    for view, mask in encoded:
        ((slot, image),) = [(s, i) for s in range(4) for i in range(images) if torch.equal(pixels[s][i], view)]
        assert torch.equal(mask, rows.mask[image, slot])


def test_masks_shrink_with_views_that_are_scored_small():
    recipe = make_recipe(sides=(16, 4), masking=Masking(patch_size=PATCH, ratio=0.5, variance=0.2))
    pixels, rows = make_pixels(recipe, 3, dtype=torch.float64), make_rows(recipe, 3)
    plain = make_objective()
    objective = Recorder(plain.student, plain.teacher, plain.center, plain.patch_center, 0.04, 0.07, patch_size=PATCH)
    hvs.HardViewSelector(objective, score_size={"global1": 8, "global2": 8}).select(pixels, rows)
    grid = plain.student[0].backbone.patches(torch.zeros(1, 3, 8, 8, dtype=torch.float64)).shape[-1]
    assert grid == 4
    ((views, masks),) = objective.seen
    assert views.shape[-1] == 8 and masks.shape == (12, 8, 8)  # as they belong to the views; encode shrinks them
    teacher, student = IBOT.encode(objective, views, masks)
    # a patch of the smaller grid stands for 2 x 2 patches, of which half or more must be masked
    expected = masks.unflatten(1, (4, 2)).unflatten(3, (4, 2)).sum((2, 4)) >= 2
    assert torch.equal(student[2], expected.flatten(1)) and student[1].shape[:2] == (12, 16)
    with pytest.raises((SelectionError, RuntimeError)):
        hvs.HardViewSelector(plain, score_size={"global1": 8, "global2": 8}).select(pixels, rows)


# ---- how the student is called ----


def test_local_views_are_scored_without_masking_as_in_the_official_loop():
    objective, local = make_objective(), torch.randn(3, 3, 4, 4, dtype=torch.float64)
    student = objective.student[0]
    with quiet(student):
        logits = objective.encode_local(local)
        assert student.backbone.masked_im_modeling is True
        student.backbone.masked_im_modeling = False
        assert torch.equal(logits, student(local)[0])


def test_the_switch_is_put_back_after_an_error():
    objective = make_objective()
    with pytest.raises(RuntimeError):
        objective.encode_local(torch.zeros(1, 4, 4, 4, dtype=torch.float64))
    assert objective.student[0].backbone.masked_im_modeling is True


def test_local_views_may_have_a_function_of_their_own():
    plain = make_objective()
    calls = []

    def for_local(pixels):
        calls.append(len(pixels))
        return pixels.flatten(1)[:, :PROTOTYPES]

    objective = IBOT(plain.student, plain.teacher, None, None, 0.04, 0.07, local_student=for_local)
    pixels, rows = make_pixels(MASKED_RECIPE, 2, dtype=torch.float64), make_rows(MASKED_RECIPE, 2)
    hvs.HardViewSelector(objective).select(pixels, rows)
    assert calls == [14]


def test_settings_are_read_at_each_scoring():
    plain = make_objective()
    state = {"center": plain.center, "patch_center": plain.patch_center, "teacher": 0.04, "patch": 0.07, "student": 0.1}
    readers = {name: (lambda name=name: state[name]) for name in state}
    objective = IBOT(plain.student, plain.teacher, *readers.values())
    mask = torch.rand(8, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    outputs = objective.encode(torch.randn(8, 3, 8, 8, dtype=torch.float64), mask=mask)
    by_image = [tuple(output.unflatten(0, (4, 2)) for output in part) for part in outputs]
    before = objective.pair_losses(by_image)
    for name, value in (
        ("center", torch.linspace(0, 1, PROTOTYPES)),
        ("patch_center", torch.linspace(0, 1, PATCH_PROTOTYPES)),
        ("teacher", 0.05),
        ("patch", 0.05),
        ("student", 0.2),
    ):
        state[name] = value
        after = objective.pair_losses(by_image)
        assert not torch.allclose(after, before, atol=1e-4), name
        before = after


def test_modules_are_those_that_are_called():
    objective = make_objective()
    other = nn.Linear(1, 1)
    assert objective.modules() == [*objective.student, *objective.teacher]
    plain = IBOT(objective.student, objective.teacher, None, None, 0.04, 0.07, modules=[other])
    assert plain.modules() == [*objective.student, *objective.teacher, other]


# ---- what is refused ----


def test_candidates_without_masks_are_refused():
    objective = make_objective()
    pixels = make_pixels(RECIPE, 2, dtype=torch.float64)
    for params, arrived in ((make_rows(RECIPE, 2), "rows without it"), (RECIPE, "no rows"), (MASKED_RECIPE, "no rows")):
        with pytest.raises(SelectionError, match=f"IBOT takes 'mask' of the candidates' rows, got {arrived}.*masking="):
            hvs.HardViewSelector(objective).select(pixels, params)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": 3}, "expected iBOT's student= as a module"),
        ({"teacher": None}, "expected iBOT's teacher="),
        ({"local_student": "backbone"}, "expected iBOT's local_student="),
        ({"center": 1}, "expected iBOT's center="),
        ({"patch_center": nn.Identity()}, "expected iBOT's patch_center="),
        ({"teacher_patch_temperature": -0.1}, "teacher_patch_temperature must be a number above 0"),
        ({"lambda1": -1}, "lambda1 must be a number of at least 0, got -1"),
        ({"lambda2": "2"}, "lambda2"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(changes, message):
    networks = {"student": nn.Identity(), "teacher": nn.Identity(), "center": None, "patch_center": None}
    temperatures = {"teacher_temperature": 0.04, "teacher_patch_temperature": 0.07}
    with pytest.raises(SelectionError, match=message):
        IBOT(**{**networks, **temperatures, **changes})


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (lambda pixels: pixels.flatten(1), r"teacher to return \(class logits, patch logits\), got torch.float64"),
        (lambda pixels: (pixels.flatten(1), pixels.flatten(1)), r"teacher to return logits, a floating tensor \[N, P, K\]"),
        (lambda pixels: (pixels, pixels.flatten(2)), r"teacher to return logits, a floating tensor \[N, K\]"),
        (lambda pixels: (pixels.flatten(1), pixels.flatten(2)), r"for each of the masks' \[4, 4\] patches, got .*\[8, 3, 64\]"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(teacher, message):
    plain = make_objective()
    objective = IBOT(plain.student, teacher, None, None, 0.04, 0.07)
    pixels, rows = make_pixels(MASKED_RECIPE, 2, dtype=torch.float64), make_rows(MASKED_RECIPE, 2)
    with pytest.raises(SelectionError, match=message):
        hvs.HardViewSelector(objective).select(pixels, rows)


def test_chosen_views_and_masks_are_those_of_the_selection():
    objective, images = make_objective(), 6
    pixels, rows = make_pixels(MASKED_RECIPE, images, dtype=torch.float64), make_rows(MASKED_RECIPE, images)
    selector = hvs.HardViewSelector(objective)
    views = selector(pixels, rows)
    slots = selector.last.slots
    assert all(torch.equal(view, expected) for view, expected in zip(views, chosen(pixels, slots), strict=True))
    taken = rows.take(slots)
    batch = hvs.Batch(views, torch.zeros(images), torch.arange(images), rows, selection=selector.last)
    unpacked, _, masks = batch
    assert unpacked is views and all(torch.equal(mask, taken.mask[:, place]) for place, mask in enumerate(masks)) and len(masks) == 2
