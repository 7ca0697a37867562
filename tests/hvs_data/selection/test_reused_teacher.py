"""A trainer of DINO that reuses the teacher's outputs of the selection trains as one that runs the teacher itself."""

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

import hvs_data as hvs
from distillers import dino_loss
from hvs_data.objectives import DINO
from small_vits import WIDTH, VisionTransformer

PROTOTYPES, STEPS = 10, 4


class Pictures(Dataset):
    """Smooth coloured pictures."""

    def __len__(self):
        return 24

    def __getitem__(self, index):
        corners = torch.from_numpy(np.random.default_rng(index).random((1, 3, 3, 4), dtype=np.float32))
        picture = nn.functional.interpolate(corners, size=(30, 40), mode="bicubic")[0].clamp(0, 1)
        return (picture * 255).byte().permute(1, 2, 0).numpy(), 0


class Network(nn.Module):
    """Views of several sizes through a backbone and a head, in float64 as all that is compared here."""

    def __init__(self):
        super().__init__()
        self.backbone, self.head = VisionTransformer(depth=2).double(), nn.Linear(WIDTH, PROTOTYPES).double()
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # as in DINO's transformers: a teacher with dropout gives other outputs each time

    def forward(self, views):
        views = views if isinstance(views, list) else [views]
        return torch.cat([self.head(self.backbone(view.double())) for view in views])


class Training:
    """What the page's loop calls, by the names that it has there."""

    def __init__(self, candidates, every, reuse):
        torch.manual_seed(5)
        student = Network()
        teacher = copy.deepcopy(student).requires_grad_(False)
        optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
        self.center = torch.zeros(PROTOTYPES, dtype=torch.float64)
        self.losses, self.calls = [], 0

        def run_teacher(images):
            self.calls += 1
            return torch.cat([teacher(torch.cat(images))])

        def loss_of(student_output, teacher_output, epoch):
            views = student_output.chunk(len(student_output) // 6)
            loss = dino_loss(teacher_output.chunk(2), views, self.center, 0.3, 0.5).mean()
            self.center = 0.9 * self.center + 0.1 * teacher_output.mean(0)
            self.losses.append(loss.item())
            return loss

        def update_teacher():
            for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                slow.data.mul_(0.9).add_(fast.detach(), alpha=0.1)

        recipe = hvs.recipes.dino(candidates=candidates, local_candidates=candidates, size=8, local_size=4, local_views=2)
        self.names = {
            "hvs": hvs,
            "source": hvs.open_source(Pictures()),
            "recipe": recipe,
            "batch_size": 6,
            "objective": DINO(student, teacher, lambda: self.center, 0.3, 0.5),
            "student": student,
            "teacher": run_teacher,
            "dino_loss": loss_of,
            "optimizer": optimizer,
            "update_teacher": update_teacher,
            "epoch": 0,
        }
        page = (Path(__file__).parents[3] / "docs" / "scoring.md").read_text()
        (loop,) = (
            code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "keep_teacher=True" in code and "for batch" in code
        )
        if not reuse:
            loop = loop.replace("batch.selection.teacher_outputs", "None")
        if every > 1:
            loop = loop.replace("keep_teacher=True", f"keep_teacher=True, every={every}")
        exec(loop, self.names)
        self.weights = torch.cat([parameter.detach().flatten() for parameter in student.parameters()])


def test_the_same_batches_make_the_same_bits():
    """Where every candidate is chosen, the selection's forward of the teacher is that of the trainer."""
    reused, own = (Training(2, 1, reuse) for reuse in (True, False))
    assert (reused.calls, own.calls) == (0, STEPS)
    assert reused.losses == own.losses and torch.equal(reused.weights, own.weights)


@pytest.mark.parametrize("every", [1, 2])
def test_training_goes_on_as_with_the_teachers_own_forward(every):
    reused, own = (Training(4, every, reuse) for reuse in (True, False))
    assert (reused.calls, own.calls) == (STEPS - STEPS // every, STEPS)
    # A forward of 24 views and one of 12 may add up the networks' sums, of at most 64 terms, in another order: relative errors of
    # 64 x 2^-53 in each of some 20 operations, times 1 / .3 in the temperature, and no more than some 100 times that after 4 steps
    # at this rate: 64 * 20 * 4 * 100 * 1.1e-16 = 6e-11.
    np.testing.assert_allclose(reused.losses, own.losses, rtol=1e-10)
    torch.testing.assert_close(reused.weights, own.weights, rtol=1e-10, atol=1e-10)
    assert own.losses[-1] != own.losses[0]
