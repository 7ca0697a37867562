"""Cross-entropies in plain PyTorch, by the textbook: softmax, log-softmax, product, sum."""

# Axes: B image, T teacher's view, S student's view, K prototype, N row.

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def cross_entropy_table(
    teacher_BTK: Tensor,
    students: Sequence[Tensor],
    center_K: Tensor | None,
    teacher_temperature: float | Tensor,
    student_temperature: float | Tensor,
) -> Tensor:
    """Cross-entropy of every student's view under every teacher's view of the same image.

    ``table[b, t, s] = -sum_k softmax((teacher[b, t] - center) / teacher_temperature)[k]
    * log_softmax(student[b, s] / student_temperature)[k]``, the term of DINO's loss (Caron et al. 2021, arXiv 2104.14294).

    Args:
        teacher_BTK: logits, floating [B, T, K].
        students: logits, one or more floating [B, S_i, K]; the table's columns follow their order.
        center_K: subtracted from the teacher's logits; None for nothing.
        teacher_temperature, student_temperature: above 0; numbers or tensors of one element.

    Returns:
        [B, T, S], S = the sum of all S_i: float64 if the teacher's logits are, and float32 whatever else they are. A NaN or positive
        infinity makes its view's entries NaN.
    """
    teacher_BTK = widened(teacher_BTK)
    if center_K is not None:
        teacher_BTK = teacher_BTK - center_K.to(teacher_BTK.dtype)
    student_BSK = torch.cat([student.to(teacher_BTK.dtype) for student in students], dim=1)
    target_BTK = torch.softmax(teacher_BTK / teacher_temperature, dim=-1)
    log_BSK = torch.log_softmax(student_BSK / student_temperature, dim=-1)
    return -(target_BTK[:, :, None] * log_BSK[:, None]).sum(-1)


def cross_entropy_rows(
    teacher_NK: Tensor,
    student_NK: Tensor,
    center_K: Tensor | None,
    teacher_temperature: float | Tensor,
    student_temperature: float | Tensor,
) -> Tensor:
    """The same, row by row: [N, K] and [N, K] -> [N]."""
    return cross_entropy_table(teacher_NK[:, None], [student_NK[:, None]], center_K, teacher_temperature, student_temperature)[:, 0, 0]


def widened(logits: Tensor) -> Tensor:
    """float64 as it is, everything else as float32."""
    return logits if logits.dtype == torch.float64 else logits.to(torch.float32)
