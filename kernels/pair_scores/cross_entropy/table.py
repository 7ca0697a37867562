"""The cross-entropy table by the implementation that fits where the logits are."""

# Axes: B image, T teacher's view, S student's view, K prototype.

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from hvs_data.errors import SelectionError
from hvs_data.kernels.pair_scores.cross_entropy import blocks

BACKENDS = ("auto", "blocks", "triton")


def cross_entropy_table(
    teacher_BTK: Tensor,
    students: Sequence[Tensor],
    center_K: Tensor | None,
    teacher_temperature: float | Tensor,
    student_temperature: float | Tensor,
    backend: str = "auto",
) -> Tensor:
    """Cross-entropy of every student's view under every teacher's view of the same image.

    ``table[b, t, s] = -sum_k softmax((teacher[b, t] - center) / teacher_temperature)[k]
    * log_softmax(student[b, s] / student_temperature)[k]``

    Args:
        teacher_BTK: logits, floating [B, T, K].
        students: logits, one or two floating [B, S_i, K]; the table's columns follow their order.
        center_K: subtracted from the teacher's logits; None for nothing.
        teacher_temperature, student_temperature: above 0; numbers or tensors of one element.
        backend: "triton" reads each logit once, on CUDA; "blocks" is plain PyTorch anywhere, in memory that does not grow with K;
            "auto" is "triton" for CUDA tensors where the package triton is installed, unless they are float64, and else "blocks".

    Returns:
        float32 [B, T, S], accumulated in float32 whatever the inputs' type, also under autocast and with TF32 allowed; float64 for
        float64 under "blocks".

    Raises:
        SelectionError: logits and centre of shapes that do not fit, an unknown backend, or "triton" for tensors that are not on CUDA.
    """
    _check_shapes(teacher_BTK, students, center_K)
    if backend not in BACKENDS:
        raise SelectionError(f"backend must be one of {BACKENDS}, got {backend!r}")
    if backend == "auto":
        fused = teacher_BTK.is_cuda and teacher_BTK.dtype != torch.float64 and find_spec("triton") is not None
        backend = "triton" if fused else "blocks"
    if backend == "blocks":
        return blocks.cross_entropy_table(teacher_BTK, students, center_K, teacher_temperature, student_temperature)
    if not teacher_BTK.is_cuda:
        raise SelectionError(f"backend 'triton' needs CUDA tensors, got logits on {teacher_BTK.device}; use backend='blocks' there")
    from hvs_data.kernels.pair_scores.cross_entropy import triton_kernel

    with torch.cuda.device(teacher_BTK.device):
        return triton_kernel.cross_entropy_table(teacher_BTK, students, center_K, teacher_temperature, student_temperature)


def _check_shapes(teacher: Tensor, students: Sequence[Tensor], center: Tensor | None) -> None:
    fits = teacher.ndim == 3 and teacher.is_floating_point() and len(students) in (1, 2)
    for student in students:
        fits = fits and student.ndim == 3 and student.is_floating_point() and student.device == teacher.device
        fits = fits and (student.shape[0], student.shape[2]) == (teacher.shape[0], teacher.shape[2])
    if not fits:
        arrived = ", ".join(f"{student.dtype} {list(student.shape)} on {student.device}" for student in students)
        raise SelectionError(
            "expected logits over the same prototypes, the teacher's [B, T, K] and one or two tensors [B, S, K] of the student's, got "
            f"{teacher.dtype} {list(teacher.shape)} on {teacher.device} and {arrived}"
        )
    if center is not None and (center.shape != teacher.shape[2:] or center.device != teacher.device):
        raise SelectionError(
            f"expected a centre of shape [{teacher.shape[2]}], one number for each prototype, on {teacher.device}, got "
            f"{list(center.shape)} on {center.device}; move it to the model's device"
        )
