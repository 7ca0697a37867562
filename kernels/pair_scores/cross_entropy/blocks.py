"""Cross-entropies block by block over the prototypes: memory for a few blocks, whatever the number of prototypes.

Softmax and sums are kept up to date as blocks go by (Milakov & Gimelshein 2018, arXiv 1805.02867): each logit is read once, and no
array of the logits' size is made.
"""

# Axes: B image, T teacher's view, S student's view, K prototype, k prototype of a block, N row.

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hvs_data.kernels.pair_scores.product import unrounded_factors

# Elements of the largest intermediate array: small enough for a CPU's cache, large enough to keep a GPU busy.
_CPU_ELEMENTS, _CUDA_ELEMENTS = 2**18, 2**24
_SHORTEST_BLOCK = 1024


@torch.no_grad()
def cross_entropy_table(
    teacher_BTK: Tensor, students: Sequence[Tensor], center_K: Tensor | None, teacher_temperature: float, student_temperature: float
) -> Tensor:
    """As the function of the same name in ``reference.py``, without gradient."""
    images, teachers, prototypes = teacher_BTK.shape
    dtype = torch.float64 if teacher_BTK.dtype == torch.float64 else torch.float32
    views = teachers + sum(student.shape[1] for student in students)
    elements = _CUDA_ELEMENTS if teacher_BTK.is_cuda else _CPU_ELEMENTS
    width = min(prototypes, max(_SHORTEST_BLOCK, elements // views))
    height = max(1, elements // (views * width))
    tables = []
    for start in range(0, images, height):
        part = slice(start, start + height)
        rows = _Rows()
        for first in range(0, prototypes, width):
            block = slice(first, first + width)
            x_BTk = teacher_BTK[part, :, block].to(dtype)
            if center_K is not None:
                x_BTk = x_BTk - center_K[block].to(dtype)
            y_BSk = torch.cat([student[part, :, block].to(dtype) for student in students], dim=1)
            rows.add(x_BTk / teacher_temperature, y_BSk / student_temperature)
        tables.append(rows.table())
    return torch.cat(tables)


@torch.no_grad()
def cross_entropy_rows(
    teacher_NK: Tensor, student_NK: Tensor, center_K: Tensor | None, teacher_temperature: float, student_temperature: float
) -> Tensor:
    """As the function of the same name in ``reference.py``."""
    return cross_entropy_table(teacher_NK[:, None], [student_NK[:, None]], center_K, teacher_temperature, student_temperature)[:, 0, 0]


class _Rows:
    """What has been seen of some images' rows: the maxima so far, and sums of exponentials relative to them."""

    def __init__(self) -> None:
        self._blocks = 0

    def add(self, x_BTk: Tensor, y_BSk: Tensor) -> None:
        """Teachers' and students' scaled logits of the next block."""
        x_max_BT, y_max_BS = x_BTk.amax(-1), y_BSk.amax(-1)
        if self._blocks:
            x_max_BT, y_max_BS = torch.maximum(self._x_max_BT, x_max_BT), torch.maximum(self._y_max_BS, y_max_BS)
        weight_BTk = torch.exp(x_BTk - _finite(x_max_BT)[..., None])
        x_sum_BT, y_sum_BS = weight_BTk.sum(-1), torch.exp(y_BSk - _finite(y_max_BS)[..., None]).sum(-1)
        dot_BTS = _products(weight_BTk, y_BSk)
        if self._blocks:
            x_scale_BT = torch.exp(self._x_max_BT - _finite(x_max_BT))
            x_sum_BT = x_sum_BT + self._x_sum_BT * x_scale_BT
            y_sum_BS = y_sum_BS + self._y_sum_BS * torch.exp(self._y_max_BS - _finite(y_max_BS))
            dot_BTS = dot_BTS + self._dot_BTS * x_scale_BT[..., None]
        self._x_max_BT, self._y_max_BS = x_max_BT, y_max_BS
        self._x_sum_BT, self._y_sum_BS, self._dot_BTS = x_sum_BT, y_sum_BS, dot_BTS
        self._blocks += 1

    def table(self) -> Tensor:
        log_sum_BS = self._y_max_BS + self._y_sum_BS.log()
        return log_sum_BS[:, None] - self._dot_BTS / self._x_sum_BT[..., None]


def _products(a_BTk: Tensor, b_BSk: Tensor) -> Tensor:
    """Sums of products over the last axis, [B, T, S]."""
    if a_BTk.shape[1] == b_BSk.shape[1] == 1:
        return (a_BTk * b_BSk).sum(-1, keepdim=True)
    if a_BTk.dtype == torch.float32:
        a_BTk, b_BSk = unrounded_factors(a_BTk, b_BSk)
    # autocast leaves products with a given output alone
    return torch.bmm(a_BTk, b_BSk.mT, out=a_BTk.new_empty(*a_BTk.shape[:2], b_BSk.shape[1]))


def _finite(maximum: Tensor) -> Tensor:
    """0 in place of a maximum of nothing but -inf, from which nothing could be subtracted."""
    return maximum.masked_fill(maximum == -torch.inf, 0)
