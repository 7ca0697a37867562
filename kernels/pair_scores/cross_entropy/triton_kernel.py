"""Cross-entropies on CUDA: one pass over the logits, softmax and sums kept up to date on the way.

What is read: with up to 16 teachers' and 64 students' views of an image (DINO with 4 global and 16 local candidates has 4 and 20), one
program reads a segment of all of an image's rows, so every logit is read from memory once. With more, rows are tiled: a teacher's
logits are read once for every 64 students, a student's once for every 16 teachers. The centre is read once an image and tile.
Segments' sums are joined by a few operations on [segments, B, T, S].
"""

# mypy: disable-error-code="no-untyped-def"
# Axes: P segment of the prototypes, B image, T teacher's view, S student's view, K prototype, k prototype of a block.

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

SEGMENT = 4096
BLOCK_K = 64
TILE_T = 16  # the least number of rows of a matrix product
MAX_TILE_S = 64


@triton.jit
def cross_entropy_segment(
    teacher,
    first,
    second,
    center,
    inverse_teacher_temperature,
    inverse_student_temperature,
    x_max,
    x_sum,
    y_max,
    y_sum,
    dot,
    images,
    teachers,
    firsts,
    seconds,
    prototypes,
    stride_tb,
    stride_tt,
    stride_fb,
    stride_fs,
    stride_sb,
    stride_ss,
    has_center: tl.constexpr,
    has_second: tl.constexpr,
    segment: tl.constexpr,
    block_k: tl.constexpr,
    tile_t: tl.constexpr,
    tile_s: tl.constexpr,
):
    """Maxima, sums of exponentials and weighted sums of one segment of the prototypes, of one tile of one image's views.

    teacher [B, T, K], first [B, S1, K] and second [B, S2, K] are strided, their prototypes adjacent; center [K] and the temperatures
    [1] are float32; the outputs x_max and x_sum [P, B, T], y_max and y_sum [P, B, S1 + S2], dot [P, B, T, S1 + S2] are contiguous.
    """
    image = tl.program_id(0).to(tl.int64)  # the one axis of a launch that may be longer than 65,535
    part = tl.program_id(1).to(tl.int64)
    students = firsts + seconds
    tiles_s = tl.cdiv(students, tile_s)
    t = (tl.program_id(2) // tiles_s) * tile_t + tl.arange(0, tile_t)
    s = (tl.program_id(2) % tiles_s) * tile_s + tl.arange(0, tile_s)
    row_t = teacher + image * stride_tb + t.to(tl.int64) * stride_tt
    row_f = first + image * stride_fb + s.to(tl.int64) * stride_fs
    row_s = second + image * stride_sb + (s - firsts).to(tl.int64) * stride_ss

    teacher_scale = tl.load(inverse_teacher_temperature)
    student_scale = tl.load(inverse_student_temperature)
    m = tl.full((tile_t,), -float("inf"), tl.float32)
    z = tl.zeros((tile_t,), tl.float32)
    n = tl.full((tile_s,), -float("inf"), tl.float32)
    w = tl.zeros((tile_s,), tl.float32)
    a = tl.zeros((tile_t, tile_s), tl.float32)
    for offset in range(0, segment, block_k):
        k = part * segment + offset + tl.arange(0, block_k)
        inside = k < prototypes
        inside_t = (t < teachers)[:, None] & inside[None, :]
        inside_s = (s < students)[:, None] & inside[None, :]
        x = tl.load(row_t[:, None] + k[None, :], mask=inside_t, other=0.0).to(tl.float32)
        if has_center:
            x -= tl.load(center + k, mask=inside, other=0.0)[None, :]
        x = tl.where(inside_t, x * teacher_scale, -float("inf"))
        y = tl.load(row_f[:, None] + k[None, :], mask=inside_s & (s < firsts)[:, None], other=0.0).to(tl.float32)
        if has_second:
            # every row is in one of the two tensors, and the other load is masked out
            y += tl.load(row_s[:, None] + k[None, :], mask=inside_s & (s >= firsts)[:, None], other=0.0).to(tl.float32)
        y *= student_scale

        m_new = tl.maximum(m, tl.max(x, axis=1))
        m_used = tl.where(m_new == -float("inf"), 0.0, m_new)
        e = tl.exp(x - m_used[:, None])
        shrink = tl.exp(m - m_used)
        z = z * shrink + tl.sum(e, axis=1)
        # factors as they are: TF32 would round them
        a = a * shrink[:, None] + tl.dot(e, tl.trans(y), input_precision="ieee")
        m = m_new
        masked_y = tl.where(inside_s, y, -float("inf"))
        n_new = tl.maximum(n, tl.max(masked_y, axis=1))
        n_used = tl.where(n_new == -float("inf"), 0.0, n_new)
        w = w * tl.exp(n - n_used) + tl.sum(tl.exp(masked_y - n_used[:, None]), axis=1)
        n = n_new

    place = part * images + image
    tl.store(x_max + place * teachers + t, m, mask=t < teachers)
    tl.store(x_sum + place * teachers + t, z, mask=t < teachers)
    tl.store(y_max + place * students + s, n, mask=s < students)
    tl.store(y_sum + place * students + s, w, mask=s < students)
    at = (place * teachers + t)[:, None] * students + s[None, :]
    tl.store(dot + at, a, mask=(t < teachers)[:, None] & (s < students)[None, :])


def cross_entropy_table(
    teacher_BTK: Tensor,
    students: Sequence[Tensor],
    center_K: Tensor | None,
    teacher_temperature: float | Tensor,
    student_temperature: float | Tensor,
) -> Tensor:
    """As the function of the same name in ``reference.py``, for one or two tensors of students; float32, whatever the inputs are."""
    images, teachers, prototypes = teacher_BTK.shape
    teacher_BTK, first, second = (_rows(logits) for logits in (teacher_BTK, students[0], students[-1]))
    firsts, seconds = first.shape[1], second.shape[1] if len(students) > 1 else 0
    parts, views = triton.cdiv(prototypes, SEGMENT), firsts + seconds
    x_max, x_sum = teacher_BTK.new_empty(2, parts, images, teachers, dtype=torch.float32)
    y_max, y_sum = teacher_BTK.new_empty(2, parts, images, views, dtype=torch.float32)
    dot = teacher_BTK.new_empty(parts, images, teachers, views, dtype=torch.float32)
    tile_s = min(MAX_TILE_S, max(16, triton.next_power_of_2(views)))
    grid = (images, parts, triton.cdiv(teachers, TILE_T) * triton.cdiv(views, tile_s))
    cross_entropy_segment[grid](
        teacher_BTK,
        first,
        second,
        teacher_BTK if center_K is None else center_K.to(torch.float32).contiguous(),
        _inverse(teacher_temperature, teacher_BTK.device),
        _inverse(student_temperature, teacher_BTK.device),
        x_max,
        x_sum,
        y_max,
        y_sum,
        dot,
        images,
        teachers,
        firsts,
        seconds,
        prototypes,
        *teacher_BTK.stride()[:2],
        *first.stride()[:2],
        *second.stride()[:2],
        has_center=center_K is not None,
        has_second=seconds > 0,
        segment=SEGMENT,
        block_k=BLOCK_K,
        tile_t=TILE_T,
        tile_s=tile_s,
    )
    x_scale_PBT, x_sum_BT, _ = _joined(x_max, x_sum)
    _, y_sum_BS, y_max_BS = _joined(y_max, y_sum)
    dot_BTS = (dot * x_scale_PBT[..., None]).sum(0)
    return (y_max_BS + y_sum_BS.log())[:, None] - dot_BTS / x_sum_BT[..., None]


def _rows(logits: Tensor) -> Tensor:
    return logits if logits.stride(-1) == 1 else logits.contiguous()


def _inverse(temperature: float | Tensor, device: torch.device) -> Tensor:
    """[1] on the device, without waiting for it."""
    if isinstance(temperature, Tensor):
        return (1 / temperature.to(device, torch.float32, non_blocking=True)).reshape(1)
    return torch.full((1,), 1 / temperature, dtype=torch.float32, device=device)


def _joined(maximum_P: Tensor, sum_P: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each segment's factor, the sum over all segments, and the maximum that it is relative to."""
    maximum = maximum_P.amax(0)
    scale_P = torch.exp(maximum_P - maximum.masked_fill(maximum == -torch.inf, 0))
    return scale_P, (sum_P * scale_P).sum(0), maximum
