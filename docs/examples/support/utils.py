"""Small stand-ins for what the repositories of DINO and iBOT hold in their utils.py."""

import math
import os
import time

import numpy as np
import torch
import torch.distributed as dist


def init_distributed_mode():
    """Join the processes that torchrun started, or be the only one; returns the device of this process."""
    cuda = torch.cuda.is_available()
    backend = "nccl" if cuda else "gloo"
    if not dist.is_initialized():
        alone = {} if "RANK" in os.environ else {"store": dist.HashStore(), "rank": 0, "world_size": 1}
        dist.init_process_group(backend, **alone)
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    return device


class MetricLogger:
    """Means of what it is told, printed while a loader is gone through."""

    def __init__(self):
        self.sums = {}

    def update(self, **values):
        for name, value in values.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = total + value, count + 1

    def log_every(self, iterable, print_freq, header):
        start = time.time()
        for number, item in enumerate(iterable):
            yield item
            if number % print_freq == 0 or number == len(iterable) - 1:
                means = "  ".join(f"{name}: {total / count:.4f}" for name, (total, count) in self.sums.items())
                print(f"{header} [{number}/{len(iterable)}]  {means}  {time.time() - start:.1f} s")


def cosine_scheduler(base, final, epochs, steps_per_epoch, warmup_epochs=0):
    """One value for every step: up from 0 in the warm-up's epochs, then down from base to final."""
    warmup = np.linspace(0, base, warmup_epochs * steps_per_epoch)
    steps = epochs * steps_per_epoch - len(warmup)
    return np.concatenate([warmup, final + (base - final) * (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2])


def get_params_groups(model):
    """Weights, and what is not decayed: biases and norms."""
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    plain = [parameter for name, parameter in trained if name.endswith(".bias") or parameter.ndim == 1]
    decayed = [parameter for name, parameter in trained if not (name.endswith(".bias") or parameter.ndim == 1)]
    return [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]


def follow_schedules(optimizer, lr, weight_decay):
    """Set what this step is made with; only the first group is decayed."""
    for number, group in enumerate(optimizer.param_groups):
        group["lr"] = lr
        if number == 0:
            group["weight_decay"] = weight_decay


@torch.no_grad()
def update_teacher(student, teacher, momentum):
    """Move the teacher's parameters towards the student's of the same names."""
    students = dict(student.named_parameters())
    for name, parameter in teacher.named_parameters():
        parameter.mul_(momentum).add_(students[name], alpha=1 - momentum)


def clip_gradients(model, clip):
    """Shorten each parameter's gradient to this length."""
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.mul_((clip / (parameter.grad.norm() + 1e-6)).clamp(max=1))


def cancel_gradients_last_layer(epoch, model, freeze_last_layer):
    """Keep the head's last layer as it is in the first epochs."""
    for name, parameter in model.named_parameters():
        if epoch < freeze_last_layer and "last_layer" in name:
            parameter.grad = None


def warmed_up(first, last, warmup_epochs, epochs):
    """One value for every epoch: from first to last in the warm-up's epochs, then last."""
    return np.concatenate([np.linspace(first, last, warmup_epochs), np.full(max(0, epochs - warmup_epochs), float(last))])


def sum_over_processes(values):
    """The sum of a tensor of each process."""
    total = values.clone()
    dist.all_reduce(total)
    return total


def mean_over_processes(values):
    """The mean over the first axis, of all processes."""
    return sum_over_processes(values.sum(0, keepdim=True)) / (len(values) * dist.get_world_size())


def random_mask(side, ratio, draw):
    """bool [side, side] with one block of about this share of patches, as MIM methods hide them."""
    mask = np.zeros((side, side), dtype=bool)
    area, aspect = ratio * side * side, math.exp(draw.uniform(-1, 1))
    height, width = (max(1, min(side, round(math.sqrt(area * stretch)))) for stretch in (aspect, 1 / aspect))
    top, left = draw.integers(side - height + 1), draw.integers(side - width + 1)
    mask[top : top + height, left : left + width] = ratio > 0
    return mask
