"""The cosine table against the formula in float64, one pair at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hvs_data.kernels.pair_scores.reference import COSINE_EPS, cosine_table

# Axes: B image, V W view, D embedding.


def formula(a_BVD, b_BWD):
    a_BVD, b_BWD = a_BVD.double().numpy(), b_BWD.double().numpy()
    images, views, others = len(a_BVD), a_BVD.shape[1], b_BWD.shape[1]
    table = np.zeros((images, views, others))
    for n, v, w in np.ndindex(images, views, others):
        a, b = a_BVD[n, v], b_BWD[n, w]
        table[n, v, w] = (a @ b) / (max(np.sqrt(a @ a), COSINE_EPS) * max(np.sqrt(b @ b), COSINE_EPS))
    return table


def rounding_bound(length):
    # In float32 (unit roundoff u) a dot product of length D errs by at most D u sum |a_d b_d|, which after division by the norms is at
    # most D u (Cauchy-Schwarz). Each norm errs relatively by (D/2 + 1) u, each of the two divisions by u. Two more for second order.
    return (2 * length + 6) * 2.0**-24


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 70), st.integers(0, 2**31))
def test_every_entry_is_the_cosine_of_its_two_vectors(images, views, others, length, seed):
    draw = torch.Generator().manual_seed(seed)
    a = torch.randn(images, views, length, generator=draw)
    b = torch.randn(images, others, length, generator=draw)
    table = cosine_table(a, b)
    assert table.dtype == torch.float32
    np.testing.assert_allclose(table.numpy(), formula(a, b), rtol=0, atol=rounding_bound(length))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_lose_nothing_beyond_their_own_rounding(dtype):
    a, b = torch.randn(3, 4, 33).to(dtype), torch.randn(3, 4, 33).to(dtype)
    table = cosine_table(a, b)
    assert table.dtype == torch.float32
    # one more rounding of each factor where float64 is narrowed to float32
    np.testing.assert_allclose(table.numpy(), formula(a, b), rtol=0, atol=rounding_bound(33) + 2 * 2.0**-24)


def test_autocast_does_not_reach_it():
    a, b = torch.randn(2, 3, 64), torch.randn(2, 3, 64)
    expected = cosine_table(a, b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.bmm(a, b.transpose(1, 2)).dtype == torch.bfloat16
        assert torch.equal(cosine_table(a, b), expected)


def test_zero_vectors_have_cosine_zero_as_in_torch():
    a, b = torch.randn(1, 2, 5), torch.randn(1, 2, 5)
    a[0, 1] = 0
    table = cosine_table(a, b)
    assert torch.equal(table[0, 1], torch.zeros(2))
    expected = torch.nn.CosineSimilarity(dim=-1)(a[:, :, None], b[:, None])
    np.testing.assert_allclose(table, expected, rtol=0, atol=2 * rounding_bound(5))


def test_a_nan_stays_in_its_own_row_and_image():
    a, b = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    a[1, 2, 0] = torch.nan
    nan = torch.zeros(2, 3, 3, dtype=torch.bool)
    nan[1, 2] = True
    assert torch.equal(cosine_table(a, b).isnan(), nan)


def test_strided_input_is_as_good_as_contiguous():
    a, b = torch.randn(4, 3, 6), torch.randn(4, 3, 6)
    a_strided = a.transpose(0, 1).contiguous().transpose(0, 1)
    assert not a_strided.is_contiguous()
    assert torch.equal(cosine_table(a_strided, b), cosine_table(a, b))
