"""The official code of DINO, iBOT, DINOv2 and DINOv3: objectives that read centres and temperatures off the trainer's loss objects.

The loops are github.com/facebookresearch/dino's main_dino.py, github.com/bytedance/ibot's main_ibot.py and the train.py of
github.com/facebookresearch/dinov2 and dinov3, and others in their way. Nothing of them is imported: what counts are the attributes of the
losses.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.distributed as dist
from torch import Tensor

from hvs_data.arguments.values import type_name, whole_number
from hvs_data.errors import SelectionError
from hvs_data.objectives.dino import DINO
from hvs_data.objectives.dinov2 import DINOv2
from hvs_data.objectives.gather import is_distributed
from hvs_data.objectives.ibot import IBOT
from hvs_data.objectives.networks import Network
from hvs_data.objectives.parts import Number

__all__ = ["dino", "dinov2", "ibot"]

# The epoch that the loss is called with, or a function that returns it.
Epoch = int | Callable[[], int]


def dino(student: Network, teacher: Network, dino_loss: Any, epoch: Epoch, **options: Any) -> DINO:
    """The objective of main_dino.py.

    The loss is read at each scoring and never called, which would move its centre: ``center``, ``teacher_temp_schedule[epoch]`` and
    ``student_temp``.

    Args:
        student, teacher: the MultiCropWrapper of each; DistributedDataParallel wrappers are passed by.
        dino_loss: the trainer's DINOLoss.
        epoch: what the loop passes to the loss, such as ``lambda: epoch`` in the function that holds the loop.
        options: further arguments of :class:`hvs_data.objectives.DINO`.

    Raises:
        SelectionError: a loss without these attributes; while scoring, an epoch that the schedule does not cover.
    """
    _check("DINOLoss", dino_loss, "center", "teacher_temp_schedule", "student_temp")
    return DINO(
        student,
        teacher,
        partial(getattr, dino_loss, "center"),
        _scheduled(dino_loss, "teacher_temp_schedule", epoch),
        partial(getattr, dino_loss, "student_temp"),
        **options,
    )


def ibot(student: Network, teacher: Network, ibot_loss: Any, epoch: Epoch, **options: Any) -> IBOT:
    """The objective of main_ibot.py.

    The loss is read at each scoring and never called: both centres, both schedules at this epoch and ``student_temp``; the weights
    ``lambda1`` and ``lambda2`` are read now.

    Args:
        student, teacher: the MultiCropWrapper of each, whose student takes ``mask=``; DistributedDataParallel wrappers are passed by.
        ibot_loss: the trainer's iBOTLoss.
        epoch: as for :func:`dino`.
        options: further arguments of :class:`hvs_data.objectives.IBOT`, such as ``patch_size`` where views are scored smaller.

    Raises:
        SelectionError: as for :func:`dino`; loss weights below 0.
    """
    names = ("center", "center2", "teacher_temp_schedule", "teacher_temp2_schedule", "student_temp", "lambda1", "lambda2")
    _check("iBOTLoss", ibot_loss, *names)
    return IBOT(
        student,
        teacher,
        partial(getattr, ibot_loss, "center"),
        partial(getattr, ibot_loss, "center2"),
        _scheduled(ibot_loss, "teacher_temp_schedule", epoch),
        _scheduled(ibot_loss, "teacher_temp2_schedule", epoch),
        partial(getattr, ibot_loss, "student_temp"),
        **{"lambda1": ibot_loss.lambda1, "lambda2": ibot_loss.lambda2, **options},
    )


def dinov2(model: Any, teacher_temp: Number, **options: Any) -> DINOv2:
    """The objective of ``SSLMetaArch``, the model of facebookresearch/dinov2 and dinov3: its loss less KoLeo's and the Gram term.

    The losses are read at each scoring and never called. Under ``cfg.train.centering == "centering"`` these are the centres that the step
    will use: an update that the last step left for the next one to apply is applied to a copy. Under "sinkhorn_knopp" codes are made over
    all global candidates of all processes.

    Args:
        model: the trainer's SSLMetaArch: ``student`` and ``teacher`` with backbone, dino_head and perhaps ibot_head, ``dino_loss``,
            ``ibot_patch_loss``, their weights and ``cfg.train.centering``, which are read now.
        teacher_temp: what the loop passes to ``forward_backward``: a number, or a function that is called at each scoring, such as
            ``lambda: teacher_temp_schedule[iteration]`` where the loop counts iterations on at their end.
        options: further arguments of :class:`hvs_data.objectives.DINOv2`, such as ``patch_size`` where views are scored smaller.

    Raises:
        SelectionError: a model without these attributes; one whose loss is another: that compares a crop with itself
            (``dino.global_ignore_diagonal`` off), or distils a fixed teacher; one that reweighs local crops, without
            ``local_class_weight``.
    """
    names = ("student", "teacher", "dino_loss", "ibot_patch_loss", "dino_loss_weight", "ibot_loss_weight", "cfg")
    _check("SSLMetaArch", model, *names)
    if not getattr(model, "dino_global_ignore_diagonal", True) or getattr(model, "is_distillation_enabled", False):
        raise SelectionError(
            "expected an SSLMetaArch that compares different crops, with a teacher that follows the student, got one with "
            "dino.global_ignore_diagonal off or distillation; write a subclass of hvs_data.objectives.DINOv2"
        )
    if getattr(getattr(model.cfg, "dino", None), "reweight_dino_local_loss", False) and "local_class_weight" not in options:
        raise SelectionError(
            "expected local_class_weight= for an SSLMetaArch with dino.reweight_dino_local_loss on, got none; pass what the step uses: "
            "local_class_weight=lambda: model.dino_local_loss_schedule[iteration]"
        )
    sinkhorn = model.cfg.train.centering == "sinkhorn_knopp"
    return DINOv2(
        model.student,
        model.teacher,
        None if sinkhorn else partial(_coming_center, model.dino_loss),
        None if sinkhorn else partial(_coming_center, model.ibot_patch_loss),
        teacher_temp,
        partial(getattr, model.dino_loss, "student_temp"),
        **{
            "centering": "sinkhorn" if sinkhorn else "softmax",
            "gather": sinkhorn,
            "class_weight": model.dino_loss_weight,
            "patch_weight": model.ibot_loss_weight,
            **options,
        },
    )


def _coming_center(loss: Any) -> Tensor:
    """The centre that the loss will use: with the update that it holds back until then."""
    center: Tensor = loss.center
    if loss.updated:
        return center
    if loss.reduce_handle is not None:
        loss.reduce_handle.wait()
    count = getattr(loss, "len_teacher_output", None) or loss.len_teacher_patch_tokens
    mean = loss.async_batch_center / (count * (dist.get_world_size() if is_distributed() else 1))
    return center * loss.center_momentum + mean * (1 - loss.center_momentum)


def _check(expected: str, loss: Any, *names: str) -> None:
    missing = [name for name in names if not hasattr(loss, name)]
    if missing:
        raise SelectionError(
            f"expected the official {expected} or one with its attributes {', '.join(names)}, got {type_name(loss)} without "
            f"{', '.join(missing)}; for another loss make hvs_data.objectives.DINO, IBOT or DINOv2 and pass centres and temperatures"
        )


def _scheduled(loss: Any, name: str, epoch: Epoch) -> Callable[[], float]:
    """The schedule's value at the epoch that it is called in."""

    def now() -> float:
        current = epoch() if callable(epoch) else epoch
        schedule = getattr(loss, name)
        number = whole_number(current)
        if number is None or not 0 <= number < len(schedule):
            raise SelectionError(
                f"expected an epoch from 0 to {len(schedule) - 1}, which {name} covers, got {current!r}; epoch= must be what the loop "
                "passes to the loss, or a function that returns it, such as lambda: epoch"
            )
        return float(schedule[number])

    return now
