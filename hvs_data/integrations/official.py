"""The official code of DINO and iBOT: objectives that read centres and temperatures off the trainer's loss object.

The loops are github.com/facebookresearch/dino's main_dino.py and github.com/bytedance/ibot's main_ibot.py, and others in their way. Nothing
of them is imported: what counts are the attributes of the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from hvs_data.arguments.values import type_name, whole_number
from hvs_data.errors import SelectionError
from hvs_data.objectives.dino import DINO
from hvs_data.objectives.ibot import IBOT
from hvs_data.objectives.networks import Network

__all__ = ["dino", "ibot"]

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


def _check(expected: str, loss: Any, *names: str) -> None:
    missing = [name for name in names if not hasattr(loss, name)]
    if missing:
        raise SelectionError(
            f"expected the official {expected} or one with its attributes {', '.join(names)}, got {type_name(loss)} without "
            f"{', '.join(missing)}; for another loss make hvs_data.objectives.DINO or IBOT and pass centres and temperatures yourself"
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
