"""Log-sum-exp in blocks against the formula in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hvs_data.kernels.pair_scores.contrast import blocks, reference
from products import UNIT, LargestTensor, matmul_precision, tensor_cores

# Axes: B image, M image or key to compare with, V W view, D embedding.


def formula(a_BVD, b_MWD, own):
    images, views, others, slots = *a_BVD.shape[:2], *b_MWD.shape[:2]
    table = torch.full((images, views, slots), -torch.inf, dtype=torch.float64)
    for n in range(images):
        for v in range(views):
            for w in range(slots):
                terms = [a_BVD[n, v].double() @ b_MWD[m, w].double() for m in range(others) if own is None or m != n + own]
                table[n, v, w] = torch.tensor(terms, dtype=torch.float64).exp().sum().log() if terms else -torch.inf
    return table


def bound_of(a_BVD, b_MWD, lse_BVW, parts=6):
    """Of the table in float32, computed block by block."""
    others, length = len(b_MWD), a_BVD.shape[2]
    # A similarity errs by (6 D + 1) units of the size of its terms, with the parts' (1 + 2**-6), and a log-sum-exp by no more than the
    # worst of its similarities. Its own arithmetic: shifted by the largest one, each exponential is off by its argument's rounding
    # (x exp(-x) < 1 units) and two units of its own, their sum of M terms by M more, which is as much in the logarithm; then the
    # logarithm's rounding and the shift's. Each block after the first (M at most) adds one such sum of two terms.
    product = ((parts * length + 1) * UNIT * (1 + 2.0**-6)) * torch.einsum("bvd,mwd->bvwm", a_BVD.double().abs(), b_MWD.double().abs())
    size = lse_BVW.abs().nan_to_num(posinf=0) + math.log(others) + 1
    return product.amax(-1) + (2 * others + 8) * UNIT * size


def assert_close(table, a_BVD, b_MWD, own):
    assert table.dtype == torch.float32
    expected = reference.lse_table(a_BVD.double(), b_MWD.double(), own)
    nothing = expected == -torch.inf
    assert torch.equal(table == -torch.inf, nothing)
    error = (table - expected).abs().masked_fill(nothing, 0)
    assert bool((error <= bound_of(a_BVD, b_MWD, expected)).all())


def draw(images, others, views, slots, length, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(images, views, length, generator=generator) * scale
    return a, torch.randn(others, slots, length, generator=generator)


@settings(max_examples=30, deadline=None)
@given(st.data(), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.integers(1, 20), st.booleans())
def test_the_reference_is_the_formula(data, images, views, slots, length, left_out):
    others = data.draw(st.integers(images, images + 3))
    own = data.draw(st.integers(0, others - images)) if left_out else None
    a, b = draw(images, others, views, slots, length, data.draw(st.integers(0, 99)), 0.5)
    torch.testing.assert_close(reference.lse_table(a.double(), b.double(), own), formula(a, b, own), rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 7), st.integers(1, 4), st.integers(1, 4), st.integers(1, 40), st.booleans(), st.sampled_from([0.1, 1, 10]))
def test_blocks_of_any_size_give_the_table(data, images, views, slots, length, left_out, scale):
    others = data.draw(st.integers(images, images + 9))
    own = data.draw(st.integers(0, others - images)) if left_out else None
    a, b = draw(images, others, views, slots, length, data.draw(st.integers(0, 99)), scale)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "CPU_BLOCK", data.draw(st.integers(1, 60)))
        patch.setattr(blocks, "COLUMNS", data.draw(st.integers(1, others + 1)))
        precision = data.draw(st.sampled_from(["highest", "high"]))
        with matmul_precision(precision):
            assert_close(blocks.lse_table(a, b, own), a, b, own)


@pytest.mark.parametrize("bits", [8, 11])
def test_tensor_cores_do_not_reach_it(bits):
    a, b = draw(20, 20, 3, 3, 64, scale=0.5)
    with tensor_cores(bits):
        assert_close(blocks.lse_table(a, b, 0), a, b, 0)


def test_autocast_does_not_reach_it():
    a, b = draw(9, 9, 3, 3, 64)
    expected = blocks.lse_table(a, b, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (a[:, 0] @ b[:, 0].T).dtype == torch.bfloat16
        assert torch.equal(blocks.lse_table(a, b, 0), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_arithmetic_is_float32_whatever_the_inputs_are(dtype):
    a, b = (tensor.to(dtype) for tensor in draw(9, 11, 3, 2, 33))
    assert torch.equal(blocks.lse_table(a, b), blocks.lse_table(a.float(), b.float()))


def test_similarities_far_apart_and_far_from_zero_are_no_danger():
    for scale in (1e3, -1e3):
        a, b = torch.full((2, 2, 1), scale), torch.arange(1.0, 9.0).reshape(4, 2, 1)
        assert_close(blocks.lse_table(a, b), a, b, None)


def test_an_image_without_others_has_nothing():
    a, b = draw(1, 1, 3, 3, 5)
    assert torch.equal(blocks.lse_table(a, b, 0), torch.full((1, 3, 3), -torch.inf))


def test_a_nan_reaches_those_who_meet_it():
    a, b = draw(4, 4, 3, 2, 5)
    b[2, 1, 0] = torch.nan
    nan = blocks.lse_table(a, b, 0).isnan()
    expected = torch.zeros(4, 3, 2, dtype=torch.bool)
    expected[[0, 1, 3], :, 1] = True  # image 2 leaves its own views out
    assert torch.equal(nan, expected)
    a[1, 2, 3] = torch.nan
    expected[1, 2] = True
    assert torch.equal(blocks.lse_table(a, b, 0).isnan(), expected)


def test_strided_input_is_as_good_as_contiguous():
    a, b = draw(6, 8, 3, 2, 5)
    strided = b.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert not strided.is_contiguous()
    # other strides may sum in another order
    for table in (blocks.lse_table(a, strided), blocks.lse_table(a.transpose(0, 1).contiguous().transpose(0, 1), b)):
        assert_close(table, a, b, None)


@pytest.mark.parametrize("precision", ["highest", "high"])
def test_no_tensor_grows_with_the_square_of_the_batch(precision):
    images, views, length = 512, 4, 16
    z = F.normalize(torch.randn(images, views, length), dim=-1)
    with matmul_precision(precision), LargestTensor() as largest:
        blocks.lse_table(z, z, 0)
    rows = images * views
    inputs = rows * length * (1 if precision == "highest" else 6)
    assert largest.elements <= max(blocks.CPU_BLOCK, inputs) < rows**2 / 10


def test_a_long_queue_is_read_in_blocks():
    z, queue = F.normalize(torch.randn(64, 4, 8), dim=-1), F.normalize(torch.randn(30000, 1, 8), dim=-1)
    with LargestTensor() as largest:
        table = blocks.lse_table(z, queue)
    assert largest.elements <= max(blocks.CPU_BLOCK, queue.numel())
    assert_close(table, z, queue, None)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["highest", "high"])
def test_cuda_gives_the_same_table(precision):
    a, b = draw(300, 300, 3, 3, 64, scale=0.5)
    with matmul_precision(precision):
        assert_close(blocks.lse_table(a.cuda(), b.cuda(), 0).cpu(), a, b, 0)
