"""docs/examples/dinov2.py: a loop as that of facebookresearch/dinov2, with its meta architecture, its losses and its batches."""

# Axes: B image, V view, K prototype, N view of a batch, P patch.

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import hvs_data as hvs
from example_scripts import EXAMPLES, falls, write_photos
from hvs_data.errors import HvsError, SelectionError
from hvs_data.integrations import official
from multi_crop_terms import Candidates, table_of
from script_twins import run_before, run_script, run_with_random_pairs, run_witnessed

SMALL = ("--batch-size", 8, "--size", 32, 16, "--patch-size", 8, "--out-dim", 64, "--lr", 0.01)
KINDS = [(), ("--shared-head",), ("--centering", "sinkhorn_knopp"), ("--registers", 0)]


def modules_of(objective):
    branches = {"student": objective.student, "teacher": objective.teacher}
    return {f"{name} {part}": module for name, branch in branches.items() for part, module in branch._asdict().items()}


def codes(logits, temperature):
    """Sinkhorn-Knopp's, three iterations: rows of samples."""
    assignment = (logits / temperature).exp()
    for _ in range(3):
        assignment = assignment / assignment.sum(0) / assignment.shape[1]
        assignment = assignment / assignment.sum(1, keepdim=True) / assignment.shape[0]
    return assignment * assignment.shape[0]


def terms_of(seen, networks, views, dtype):
    """The losses' terms by (teacher's view, student's view), [B] each; (i, i) are patch losses. Centres are those that the step uses:
    when the student's forward begins, it has worked out its targets."""
    objective, params = seen.objective, seen.batch.params
    networks = {name: copy.deepcopy(network).to(dtype) for name, network in networks.items()}
    temperature = objective.teacher_temperature()
    teacher, student, teacher_patches, student_patches = {}, {}, {}, {}
    masks = {v: params.mask[:, v].flatten(1) for v, role in enumerate(params.role) if role != "local"}
    for v, view in enumerate(views):
        tokens = networks["student backbone"](view.to(dtype), is_training=True, masks=masks.get(v))
        student[v] = networks["student class_head"](tokens["x_norm_clstoken"])
        if v in masks:
            student_patches[v] = networks["student patch_head"](tokens["x_norm_patchtokens"])
            tokens = networks["teacher backbone"](view.to(dtype), is_training=True)
            teacher[v] = networks["teacher class_head"](tokens["x_norm_clstoken"])
            teacher_patches[v] = networks["teacher patch_head"](tokens["x_norm_patchtokens"])

    if objective.centering == "sinkhorn":
        of_class = dict(zip(teacher, codes(torch.cat(list(teacher.values())), temperature).chunk(len(teacher)), strict=True))
        of_patch = {v: torch.zeros_like(patches) for v, patches in teacher_patches.items()}
        masked = codes(torch.cat([teacher_patches[v][masks[v]] for v in masks]), temperature)
        for v, part in zip(masks, masked.split([int(mask.sum()) for mask in masks.values()]), strict=True):
            of_patch[v][masks[v]] = part
    else:
        centers = [center.args[0].center.to(dtype).flatten() for center in (objective.center, objective.patch_center)]
        of_class = {v: ((logits - centers[0]) / temperature).softmax(-1) for v, logits in teacher.items()}
        of_patch = {v: ((logits - centers[1]) / temperature).softmax(-1) for v, logits in teacher_patches.items()}

    def loss(target, logits):
        return -(target * (logits / 0.1).log_softmax(-1)).sum(-1)

    found = {(t, s): loss(of_class[t], student[s]) for t in teacher for s in student if s != t}
    for v, mask in masks.items():
        found[v, v] = (loss(of_patch[v], student_patches[v]) * mask).sum(1) / mask.sum(1).clamp(min=1)
    return found


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_it_trains_on_the_hardest_views_of_every_step(kind, tmp_path):
    seen = Candidates()
    run = run_witnessed(
        "dinov2.py",
        write_photos(tmp_path, 24),
        *("--epochs", 3),
        *SMALL,
        *kind,
        modules_of=modules_of,
        pair_losses=lambda networks, views: table_of(
            seen, *(terms_of(seen, networks, views, dtype) for dtype in (torch.float64, torch.float32))
        ),
        with_batch=seen.remember,
    )
    assert run.witness.checked == len(run.losses) == 9 and run.epochs == [0, 1, 2]
    assert torch.tensor(run.losses).isfinite().all()
    assert min(run.witness.gained) >= 0 and sum(run.witness.gained) > 0


def collate(samples):
    """What the released code makes of crops and masks, of items ``(views, label, masks)``."""
    globals_ = len(samples[0][2])
    crops = [torch.stack([views[number] for views, _, _ in samples]) for number in range(len(samples[0][0]))]
    masks = torch.stack([masks[number] for number in range(globals_) for _, _, masks in samples]).flatten(1)
    weight = [1 / int(mask.sum()) for mask in masks for _ in range(int(mask.sum()))]
    where = [number for number, hidden in enumerate(masks.flatten().tolist()) if hidden]
    return {
        "collated_global_crops": torch.cat(crops[:globals_]),
        "collated_local_crops": torch.cat(crops[globals_:]),
        "collated_masks": masks,
        "mask_indices_list": torch.tensor(where),
        "masks_weight": torch.tensor(weight),
        "upperbound": len(where),
        "n_masked_patches": torch.tensor([len(where)]),
    }


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_random_views_train_as_the_same_views_in_a_data_loader(kind, tmp_path):
    photos = write_photos(tmp_path, 24)
    run = run_with_random_pairs("dinov2.py", photos, *SMALL, *kind)
    assert len(run.losses) == len(run.batches) == 3
    assert run_before("dinov2.py", run.batches, photos, *SMALL, *kind, collate=collate).losses == run.losses


def test_it_trains_and_it_ran_before(tmp_path):
    photos = write_photos(tmp_path, 24)
    # with codes as targets, as a centre's targets sharpen while it moves
    run = run_script(EXAMPLES / "dinov2.py", photos, *SMALL[:-1], 0.003, "--epochs", 6, "--centering", "sinkhorn_knopp")
    assert len(run.losses) == 18 and falls(run.losses)
    before = run_script(EXAMPLES / "before" / "dinov2.py", photos, *SMALL)
    assert len(before.losses) == 3 and torch.tensor(before.losses).isfinite().all()


# ---- reading the meta architecture ----


class Loss:
    """As the released losses keep a centre."""

    student_temp, center_momentum, reduce_handle = 0.1, 0.9, None

    def __init__(self, length):
        self.center, self.updated, self.async_batch_center = torch.zeros(1, 4), True, None
        setattr(self, length, None)


def arch(**changed):
    network = nn.ModuleDict({"backbone": nn.Identity(), "dino_head": nn.Identity()})
    model = SimpleNamespace(
        student=network,
        teacher=network,
        dino_loss=Loss("len_teacher_output"),
        ibot_patch_loss=Loss("len_teacher_patch_tokens"),
        dino_loss_weight=1.0,
        ibot_loss_weight=0.5,
        cfg=SimpleNamespace(train=SimpleNamespace(centering="centering"), dino=SimpleNamespace()),
    )
    vars(model).update(changed)
    return model


@pytest.mark.parametrize(
    "loss, length, center", [("dino_loss", "len_teacher_output", "center"), ("ibot_patch_loss", "len_teacher_patch_tokens", "patch_center")]
)
def test_the_centre_is_the_one_that_the_step_will_use_and_stays_as_it_is(loss, length, center):
    model = arch()
    objective, loss = official.dinov2(model, 0.05), getattr(model, loss)
    assert getattr(objective, center)() is loss.center and objective.patch_weight == 0.5
    loss.updated, loss.async_batch_center = False, torch.full((1, 4), 6.0)
    setattr(loss, length, 2)
    torch.testing.assert_close(getattr(objective, center)(), torch.full((1, 4), 0.3))
    assert not loss.updated and torch.equal(loss.center, torch.zeros(1, 4))


def test_sinkhorn_knopp_needs_no_centre():
    model = arch()
    model.cfg.train.centering = "sinkhorn_knopp"
    objective = official.dinov2(model, lambda: 0.05, gather=False)
    assert objective.centering == "sinkhorn" and objective.center is None and not objective.gather


def test_another_loss_is_refused():
    with pytest.raises(SelectionError, match="expected the official SSLMetaArch .* without student"):
        official.dinov2(nn.Identity(), 0.05)
    for changed in ({"dino_global_ignore_diagonal": False}, {"is_distillation_enabled": True}):
        with pytest.raises(SelectionError, match=r"write a subclass of hvs_data.objectives.DINOv2"):
            official.dinov2(arch(**changed), 0.05)
    model = arch()
    model.cfg.dino.reweight_dino_local_loss = True
    with pytest.raises(SelectionError, match="expected local_class_weight= .* pass what the step uses"):
        official.dinov2(model, 0.05)
    assert official.dinov2(model, 0.05, local_class_weight=lambda: 0.5).local_class_weight() == 0.5


def test_batches_need_masks(tmp_path):
    loader = hvs.ViewLoader(write_photos(tmp_path, 4), hvs.recipes.dinov2(size=16, local_size=8), 4, format=hvs.formats.dinov2)
    with pytest.raises(HvsError, match="dinov2 expects a recipe with masking"):
        next(iter(loader))
    recipe = hvs.recipes.dinov2(size=16, local_size=8, local_views=0, masking=hvs.recipes.Masking(4))
    (batch,) = hvs.ViewLoader(write_photos(tmp_path, 4), recipe, 4, format=hvs.formats.dinov2)
    assert batch["collated_global_crops"].shape == (8, 3, 16, 16) and batch["collated_local_crops"].shape[0] == 0
    assert batch["collated_masks"].shape == (8, 16) and batch["masks_weight"].sum() == batch["collated_masks"].any(1).sum()
    assert "collated_gram_teacher_crops" not in batch


def test_twins_are_the_gram_teachers_crops(tmp_path):
    recipe = hvs.recipes.dinov2(4, size=16, local_size=8, masking=hvs.recipes.Masking(4), twins=(hvs.recipes.Twin(24),))
    views = hvs.ViewLoader(write_photos(tmp_path, 4), recipe, 4)
    selector = hvs.HardViewSelector(hvs.objectives.SimSiam(encoder=nn.Flatten(), predictor=nn.Identity()), policy="random")
    batch = next(iter(hvs.HardViewLoader(views, selector)))
    crops = hvs.formats.dinov2(batch)["collated_gram_teacher_crops"]
    assert crops.shape == (8, 3, 24, 24) and torch.equal(crops[4:], batch.twins[0][1])
