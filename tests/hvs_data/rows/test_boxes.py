"""Overlap of boxes, judged by painting them and counting pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import hvs_data as hvs
from hvs_data.types import pairwise_iou

SIDE = 12


@st.composite
def boxes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    top, left = draw(st.integers(0, SIDE - 1)), draw(st.integers(0, SIDE - 1))
    return top, left, draw(st.integers(1, SIDE - top)), draw(st.integers(1, SIDE - left))


def painted(box: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    top, left, height, width = box
    mask[top : top + height, left : left + width] = True
    return mask


@given(st.lists(boxes(), min_size=1, max_size=4))
def test_equals_a_count_of_pixels(views: list[tuple[int, int, int, int]]) -> None:
    overlap = pairwise_iou(torch.tensor(views, dtype=torch.int32))
    assert overlap.dtype == torch.float32
    for i, first in enumerate(views):
        for j, second in enumerate(views):
            shared, covered = (painted(first) & painted(second)).sum(), (painted(first) | painted(second)).sum()
            # both sides round one quotient of small integers to float32
            assert overlap[i, j].item() == np.float32(shared / covered)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0, 0, 4, 4), (0, 0, 4, 4), 1.0),
        ((0, 0, 4, 4), (0, 4, 4, 4), 0.0),
        ((0, 0, 4, 4), (9, 9, 1, 1), 0.0),
        ((0, 0, 4, 4), (1, 1, 2, 2), 0.25),
        ((0, 0, 4, 4), (2, 2, 4, 4), 4 / 28),
    ],
    ids=["equal", "touching", "apart", "nested", "corner"],
)
def test_known_overlaps(first: tuple[int, ...], second: tuple[int, ...], expected: float) -> None:
    overlap = pairwise_iou(torch.tensor([first, second], dtype=torch.int32))
    assert torch.equal(overlap, torch.tensor([[1, expected], [expected, 1]], dtype=torch.float32))


def test_areas_past_int32_do_not_overflow() -> None:
    side = 2**20
    overlap = pairwise_iou(torch.tensor([[0, 0, side, side], [0, side // 2, side, side // 2]], dtype=torch.int32))
    assert overlap.tolist() == [[1.0, 0.5], [0.5, 1.0]]


def test_iou_of_rows_is_symmetric_with_a_unit_diagonal() -> None:
    params = hvs.sample_views(hvs.recipes.dino(candidates=4), seed=0, epoch=0, index=range(5), height=[300] * 5, width=[400] * 5)
    overlap = hvs.iou(params)
    assert overlap.shape == (5, 12, 12)
    assert torch.equal(overlap, overlap.transpose(1, 2))
    assert torch.equal(overlap.diagonal(dim1=1, dim2=2), torch.ones(5, 12))
    assert torch.equal(overlap[3], pairwise_iou(params.box[3]))


def test_iou_of_an_empty_batch() -> None:
    params = hvs.sample_views(hvs.recipes.simsiam(), seed=0, epoch=0, index=[], height=[], width=[])
    assert hvs.iou(params).shape == (0, 2, 2)
