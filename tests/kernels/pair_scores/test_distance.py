"""Mean squared distance pair by pair against the formula in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hvs_data.kernels.pair_scores.distance import blocks, reference
from products import UNIT, LargestTensor


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 70),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    st.integers(0, 99),
)
def test_every_entry_is_the_distance_of_its_two_vectors(images, views, length, dtype, seed):
    z = torch.randn(images, views, length, generator=torch.Generator().manual_seed(seed)).to(dtype)
    table = blocks.squared_distance_table(z)
    assert table.dtype == torch.float32 and torch.equal(table, table.transpose(1, 2))
    expected = reference.squared_distance_table(z.double())
    for v in range(views):
        for w in range(views):
            torch.testing.assert_close(expected[:, v, w], (z[:, v].double() - z[:, w].double()).square().mean(1), rtol=1e-12, atol=0)
    # all terms are positive: the difference errs by one unit, its square by three, their sum by D, the division by one
    assert bool(((table - expected).abs() <= (length + 5) * UNIT * expected).all())


def test_close_views_keep_their_distance():
    z = 100 + torch.arange(4.0).reshape(1, 4, 1) * 2.0**-10
    assert torch.equal(blocks.squared_distance_table(z), reference.squared_distance_table(z))


def test_wide_input_is_narrowed_once():
    z = torch.randn(3, 4, 9, dtype=torch.float64)
    assert torch.equal(blocks.squared_distance_table(z), blocks.squared_distance_table(z.float()))


def test_autocast_does_not_reach_it():
    z = torch.randn(3, 4, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        table = blocks.squared_distance_table(z)
    assert torch.equal(table, blocks.squared_distance_table(z))


def test_a_nan_stays_in_its_view_and_image():
    z = torch.randn(2, 3, 5)
    z[1, 2, 0] = torch.nan
    nan = torch.zeros(2, 3, 3, dtype=torch.bool)
    nan[1, 2, :2] = nan[1, :2, 2] = True
    assert torch.equal(blocks.squared_distance_table(z).isnan(), nan)


def test_differences_of_one_pair_exist_at_a_time():
    z = torch.randn(16, 6, 128)
    with LargestTensor() as largest:
        blocks.squared_distance_table(z)
    assert largest.elements <= 16 * 128


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_same_table():
    z = torch.randn(3, 4, 700)
    expected = reference.squared_distance_table(z.double())
    assert bool(((blocks.squared_distance_table(z.cuda()).cpu() - expected).abs() <= 705 * UNIT * expected).all())
