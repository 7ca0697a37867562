"""The losses of the official scripts main_dino.py and main_ibot.py, with the attributes that these have."""

import torch
from torch import nn

from .utils import mean_over_processes, warmed_up


def cross_entropy(target, logits):
    return -(target * logits.log_softmax(-1)).sum(-1)


class DINOLoss(nn.Module):
    def __init__(self, out_dim, ncrops, warmup_teacher_temp, teacher_temp, warmup_teacher_temp_epochs, nepochs):
        super().__init__()
        self.ncrops, self.student_temp, self.center_momentum = ncrops, 0.1, 0.9
        self.register_buffer("center", torch.zeros(1, out_dim))
        self.teacher_temp_schedule = warmed_up(warmup_teacher_temp, teacher_temp, warmup_teacher_temp_epochs, nepochs)

    def forward(self, student_output, teacher_output, epoch):
        student = (student_output / self.student_temp).chunk(self.ncrops)
        teacher = ((teacher_output - self.center) / self.teacher_temp_schedule[epoch]).softmax(-1).detach().chunk(2)
        pairs = [(t, s) for t in range(2) for s in range(self.ncrops) if s != t]
        loss = sum(cross_entropy(teacher[t], student[s]).mean() for t, s in pairs) / len(pairs)
        mean = mean_over_processes(teacher_output.detach())
        self.center = self.center * self.center_momentum + mean * (1 - self.center_momentum)
        return loss


class iBOTLoss(nn.Module):  # noqa: N801, as the repository names it
    def __init__(
        self,
        out_dim,
        patch_out_dim,
        ngcrops,
        nlcrops,
        warmup_teacher_temp,
        teacher_temp,
        warmup_teacher_temp2,
        teacher_temp2,
        warmup_teacher_temp_epochs,
        nepochs,
        lambda1=1.0,
        lambda2=1.0,
    ):
        super().__init__()
        self.ngcrops, self.ncrops = ngcrops, ngcrops + nlcrops
        self.student_temp, self.center_momentum = 0.1, 0.9
        self.lambda1, self.lambda2 = lambda1, lambda2
        self.register_buffer("center", torch.zeros(1, out_dim))
        self.register_buffer("center2", torch.zeros(1, 1, patch_out_dim))
        self.teacher_temp_schedule = warmed_up(warmup_teacher_temp, teacher_temp, warmup_teacher_temp_epochs, nepochs)
        self.teacher_temp2_schedule = warmed_up(warmup_teacher_temp2, teacher_temp2, warmup_teacher_temp_epochs, nepochs)

    def forward(self, student_output, teacher_output, student_local_cls, student_mask, epoch):
        classes = torch.cat([student_output[0], student_local_cls]).div(self.student_temp).chunk(self.ncrops)
        patches = student_output[1].div(self.student_temp).chunk(self.ngcrops)
        temp, temp2 = self.teacher_temp_schedule[epoch], self.teacher_temp2_schedule[epoch]
        class_targets = ((teacher_output[0] - self.center) / temp).softmax(-1).detach().chunk(self.ngcrops)
        patch_targets = ((teacher_output[1] - self.center2) / temp2).softmax(-1).detach().chunk(self.ngcrops)

        pairs = [(t, s) for t in range(self.ngcrops) for s in range(self.ncrops) if s != t]
        cls = sum(cross_entropy(class_targets[t], classes[s]).mean() for t, s in pairs) / len(pairs) * self.lambda1
        patch = torch.zeros_like(cls)
        for targets, logits, mask in zip(patch_targets, patches, student_mask[: self.ngcrops], strict=True):
            hidden = mask.flatten(1).to(logits.dtype)
            patch = patch + ((cross_entropy(targets, logits) * hidden).sum(-1) / hidden.sum(-1).clamp(min=1)).mean()
        patch = patch / self.ngcrops * self.lambda2

        for name, output in (("center", teacher_output[0]), ("center2", teacher_output[1].mean(1, keepdim=True))):
            mean = mean_over_processes(output.detach())
            setattr(self, name, getattr(self, name) * self.center_momentum + mean * (1 - self.center_momentum))
        return {"cls": cls, "patch": patch, "loss": cls + patch}
