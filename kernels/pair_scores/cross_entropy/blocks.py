"""Cross-entropies block by block over the prototypes: memory for a few blocks, whatever the number of prototypes.

Softmax and sums are kept up to date as blocks go by (Milakov & Gimelshein 2018, arXiv 1805.02867): each logit is read once, and no
array of the logits' size is made.
"""

# Axes: B image, T teacher's view, S student's view, K prototype, k prototype of a block, N row.

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hvs_data.kernels.pair_scores.product import unrounded_factors

# Elements of the largest intermediate array: small enough for a CPU's cache, large enough to keep a GPU busy.
_CPU_ELEMENTS, _CUDA_ELEMENTS = 2**18, 2**24
_SHORTEST_BLOCK = 1024


@torch.no_grad()
def cross_entropy_table(
    teacher_BTK: Tensor,
    students: Sequence[Tensor],
    center_K: Tensor | None,
    teacher_temperature: float | Tensor,
    student_temperature: float | Tensor,
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
        sums: _Sums | None = None
        for first in range(0, prototypes, width):
            block = slice(first, first + width)
            x_BTk = teacher_BTK[part, :, block].to(dtype)
            if center_K is not None:
                x_BTk = x_BTk - center_K[block].to(dtype)
            y_BSk = torch.cat([student[part, :, block].to(dtype) for student in students], dim=1)
            these = _block_sums(x_BTk / teacher_temperature, y_BSk / student_temperature)
            sums = these if sums is None else _joined(sums, these)
        assert sums is not None
        tables.append(_table(sums))
    return torch.cat(tables)


@torch.no_grad()
def cross_entropy_rows(
    teacher_NK: Tensor,
    student_NK: Tensor,
    center_K: Tensor | None,
    teacher_temperature: float | Tensor,
    student_temperature: float | Tensor,
) -> Tensor:
    """As the function of the same name in ``reference.py``."""
    return cross_entropy_table(teacher_NK[:, None], [student_NK[:, None]], center_K, teacher_temperature, student_temperature)[:, 0, 0]


class _Sums(NamedTuple):
    """What is known of some images' rows after some of the prototypes: maxima, and sums of exponentials relative to them."""

    x_max_BT: Tensor
    x_sum_BT: Tensor
    y_max_BS: Tensor
    y_sum_BS: Tensor
    dot_BTS: Tensor


def _block_sums(x_BTk: Tensor, y_BSk: Tensor) -> _Sums:
    """Of the teachers' and students' scaled logits for one block of prototypes."""
    x_max_BT, y_max_BS = x_BTk.amax(-1), y_BSk.amax(-1)
    weight_BTk = torch.exp(x_BTk - _finite(x_max_BT)[..., None])
    y_sum_BS = torch.exp(y_BSk - _finite(y_max_BS)[..., None]).sum(-1)
    return _Sums(x_max_BT, weight_BTk.sum(-1), y_max_BS, y_sum_BS, _products(weight_BTk, y_BSk))


def _joined(one: _Sums, other: _Sums) -> _Sums:
    """Of the prototypes of both."""
    x_max_BT, y_max_BS = torch.maximum(one.x_max_BT, other.x_max_BT), torch.maximum(one.y_max_BS, other.y_max_BS)
    x_scales = [torch.exp(sums.x_max_BT - _finite(x_max_BT)) for sums in (one, other)]
    y_scales = [torch.exp(sums.y_max_BS - _finite(y_max_BS)) for sums in (one, other)]
    return _Sums(
        x_max_BT,
        one.x_sum_BT * x_scales[0] + other.x_sum_BT * x_scales[1],
        y_max_BS,
        one.y_sum_BS * y_scales[0] + other.y_sum_BS * y_scales[1],
        one.dot_BTS * x_scales[0][..., None] + other.dot_BTS * x_scales[1][..., None],
    )


def _table(sums: _Sums) -> Tensor:
    log_sum_BS = sums.y_max_BS + sums.y_sum_BS.log()
    return log_sum_BS[:, None] - sums.dot_BTS / sums.x_sum_BT[..., None]


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
