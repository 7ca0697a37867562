"""The table in plain PyTorch, whole and in blocks, against the formula in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import DINOLoss
from torch.utils._python_dispatch import TorchDispatchMode

from cross_entropies import U64, bound, material, tables
from hvs_data.kernels.pair_scores.cross_entropy import blocks, reference
from products import tensor_cores

IMPLEMENTATIONS = pytest.mark.parametrize("implementation", [reference, blocks], ids=["reference", "blocks"])
TEMPERATURES = (0.04, 0.1)


@pytest.fixture
def small_blocks(monkeypatch):
    """Several blocks, and parts of the images, for small inputs."""
    monkeypatch.setattr(blocks, "_CPU_ELEMENTS", 64)
    monkeypatch.setattr(blocks, "_SHORTEST_BLOCK", 7)


@IMPLEMENTATIONS
@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.lists(st.integers(1, 4), min_size=1, max_size=2), st.integers(1, 60), st.integers(0, 2**31))
def test_every_entry_is_the_cross_entropy_of_its_two_views(implementation, images, teachers, students, prototypes, seed):
    teacher, student, center = material(images, teachers, students, prototypes, seed)
    table = implementation.cross_entropy_table(teacher, student, center, *TEMPERATURES)
    expected = tables(teacher, student, center, *TEMPERATURES)
    assert table.dtype == torch.float32
    np.testing.assert_allclose(table, expected, rtol=0, atol=bound(teacher, student, center, *TEMPERATURES))


def test_blocks_are_joined_to_the_whole(small_blocks):
    for prototypes in (1, 6, 7, 8, 50):
        teacher, student, center = material(5, 2, [2, 3], prototypes, seed=prototypes, spread=3.0)
        table = blocks.cross_entropy_table(teacher, student, center, *TEMPERATURES)
        expected = tables(teacher, student, center, *TEMPERATURES)
        np.testing.assert_allclose(table, expected, rtol=0, atol=bound(teacher, student, center, *TEMPERATURES, joins=8))


@pytest.mark.parametrize("descending", [False, True])
def test_maxima_that_rise_or_fall_from_block_to_block(small_blocks, descending):
    teacher, student, center = material(2, 2, [2], 50)
    teacher, student = (logits.sort(-1, descending=descending).values for logits in (teacher, student[0]))
    table = blocks.cross_entropy_table(teacher, [student], center, *TEMPERATURES)
    expected = tables(teacher, [student], center, *TEMPERATURES)
    np.testing.assert_allclose(table, expected, rtol=0, atol=bound(teacher, [student], center, *TEMPERATURES, joins=8))


def test_float64_stays_float64(small_blocks):
    teacher, student, center = material(3, 2, [2, 3], 50, dtype=torch.float64)
    results = [implementation.cross_entropy_table(teacher, student, center, *TEMPERATURES) for implementation in (reference, blocks)]
    for table in results:
        assert table.dtype == torch.float64
        expected = tables(teacher, student, center, *TEMPERATURES)
        # the oracle's own rounding is of the same kind
        np.testing.assert_allclose(table, expected, rtol=0, atol=2 * bound(teacher, student, center, *TEMPERATURES, joins=8, u=U64))


@IMPLEMENTATIONS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_logits_lose_nothing_more(implementation, dtype):
    teacher, student, center = material(3, 2, [2, 3], 50, dtype=dtype)
    table = implementation.cross_entropy_table(teacher, student, center, *TEMPERATURES)
    assert torch.equal(table, implementation.cross_entropy_table(teacher.float(), [s.float() for s in student], center, *TEMPERATURES))


@pytest.mark.parametrize("bits", [11, 8], ids=["TF32", "bfloat16"])
def test_tensor_cores_do_not_reach_it(bits, monkeypatch):
    teacher, student, center = material(2, 3, [3, 4], 300)
    expected = tables(teacher, student, center, *TEMPERATURES)

    def error():
        with tensor_cores(bits):
            return (blocks.cross_entropy_table(teacher, student, center, *TEMPERATURES) - expected).abs().max()

    # products of factors in three parts sum six times as many terms
    guarded = error()
    assert guarded <= 6 * bound(teacher, student, center, *TEMPERATURES)
    monkeypatch.setattr(blocks, "unrounded_factors", lambda a, b: (a, b))
    assert error() > 10 * guarded


def test_autocast_does_not_reach_it():
    teacher, student, center = material(2, 3, [3, 4], 300)
    expected = blocks.cross_entropy_table(teacher, student, center, *TEMPERATURES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(blocks.cross_entropy_table(teacher, student, center, *TEMPERATURES), expected)


@IMPLEMENTATIONS
def test_without_a_centre(implementation):
    teacher, student, center = material(2, 2, [3], 20)
    without = implementation.cross_entropy_table(teacher, student, None, *TEMPERATURES)
    assert torch.equal(without, implementation.cross_entropy_table(teacher, student, torch.zeros_like(center), *TEMPERATURES))


@IMPLEMENTATIONS
def test_temperatures_may_be_tensors(implementation):
    teacher, student, center = material(2, 2, [3], 20)
    table = implementation.cross_entropy_table(teacher, student, center, 0.25, 0.5)
    assert torch.equal(implementation.cross_entropy_table(teacher, student, center, torch.tensor(0.25), torch.tensor(0.5)), table)


@IMPLEMENTATIONS
def test_rows_are_a_table_of_one(implementation):
    teacher, student, center = material(1, 40, [40], 30)
    rows = implementation.cross_entropy_rows(teacher[0], student[0][0], center, *TEMPERATURES)
    table = tables(teacher.transpose(0, 1), [student[0].transpose(0, 1)], center, *TEMPERATURES)
    np.testing.assert_allclose(rows, table[:, 0, 0], rtol=0, atol=bound(teacher, student, center, *TEMPERATURES))


@IMPLEMENTATIONS
def test_the_mean_over_a_batch_is_lightlys_loss(implementation):
    """With 2 teacher's views and 5 of the student, of which the first two are the same views."""
    teacher, student, center = material(6, 2, [2, 3], 40)
    loss = DINOLoss(40, teacher_temp=0.07)
    loss.center.copy_(center)
    views = torch.cat(student, dim=1)
    expected = loss(list(teacher.unbind(1)), list(views.unbind(1)))
    table = implementation.cross_entropy_table(teacher, student, center, 0.07, 0.1)
    terms = table.masked_fill(torch.eye(2, 5, dtype=torch.bool), 0).sum((1, 2)) / 8
    # both sides err by so much
    assert abs(float(terms.mean() - expected)) <= 2 * bound(teacher, student, center, 0.07, 0.1)


@IMPLEMENTATIONS
def test_what_is_not_finite_stays_in_its_own_entries(implementation, small_blocks):
    for value in (torch.nan, torch.inf):
        teacher, student, center = material(2, 2, [3], 20)
        teacher[0, 1, 5] = value
        student[0][1, 2, 9] = value
        bad = torch.zeros(2, 2, 3, dtype=torch.bool)
        bad[0, 1], bad[1, :, 2] = True, True
        assert torch.equal(~implementation.cross_entropy_table(teacher, student, center, *TEMPERATURES).isfinite(), bad)


@IMPLEMENTATIONS
def test_prototypes_that_the_teacher_leaves_out(implementation, small_blocks):
    """-inf in whole blocks, the first ones included."""
    teacher, student, center = material(2, 2, [3], 30)
    teacher[..., :18] = -torch.inf
    table = implementation.cross_entropy_table(teacher, student, center, *TEMPERATURES)
    x = ((teacher - center) / 0.04).double().softmax(-1)
    expected = -(x[:, :, None, 18:] * (student[0].double() / 0.1).log_softmax(-1)[:, None, :, 18:]).sum(-1)
    np.testing.assert_allclose(table, expected, rtol=0, atol=bound(teacher[..., 18:], student, center[18:], *TEMPERATURES, joins=8))


@IMPLEMENTATIONS
def test_strided_logits_are_as_good_as_contiguous(implementation):
    teacher, student, center = material(3, 2, [3], 20)
    strided = [logits.transpose(0, 1).contiguous().transpose(0, 1) for logits in (teacher, student[0])]
    assert not strided[0].is_contiguous()
    expected = implementation.cross_entropy_table(teacher, student, center, *TEMPERATURES)
    assert torch.equal(implementation.cross_entropy_table(strided[0], strided[1:], center, *TEMPERATURES), expected)


class LargestMade(TorchDispatchMode):
    """Elements of the largest tensor that is made and is not a view of one of those given."""

    def __init__(self, *given):
        super().__init__()
        self.given = {tensor.untyped_storage().data_ptr() for tensor in given}
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for output in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(output, torch.Tensor) and output.untyped_storage().data_ptr() not in self.given:
                self.elements = max(self.elements, output.numel())
        return result


@pytest.mark.parametrize("prototypes", [2**15, 2**17])
def test_memory_does_not_grow_with_the_prototypes(prototypes):
    teacher, student, center = material(8, 2, [2, 6], prototypes)
    made = LargestMade(teacher, *student, center)
    with made:
        blocks.cross_entropy_table(teacher, student, center, *TEMPERATURES)
    assert 0 < made.elements <= blocks._CPU_ELEMENTS
