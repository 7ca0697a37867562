"""Shares of the cross-correlation loss: the matrix itself in float64 against similarities of images in blocks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hvs_data.kernels.pair_scores.correlation import blocks, reference
from products import UNIT, LargestTensor, matmul_precision, tensor_cores

# Axes: B image, V view, D E embedding.


def standardised(images, views, length, seed=0):
    z = torch.randn(images, views, length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    z = z - z.mean(0)
    return (z / (z.square().mean(0) + 1e-5).sqrt()).float()


def bound_of(z_BVD, redundancy):
    """Of the shares in float32."""
    # Every term of a share passes through a sum over D (of 6 D products where they come in parts), one over the M images and one over D
    # again, and a handful of single operations, so it errs by at most 8 D + M + 16 units. The sum of the terms' sizes is the share of
    # absolute values, with the diagonal counted twice, as it is added and taken off.
    images, _, length = z_BVD.shape
    z_BVD = z_BVD.double().abs()
    correlation = torch.einsum("bvd,bwe->vwde", z_BVD, z_BVD) / images
    diagonal_BVW = ((1 + correlation.diagonal(dim1=2, dim2=3)) * (1 + torch.einsum("bvd,bwd->bvwd", z_BVD, z_BVD))).sum(-1)
    all_BVW = torch.einsum("bvd,vwde,bwe->bvw", z_BVD, correlation, z_BVD)
    return (8 * length + images + 16) * UNIT * (1 + 2.0**-6) * ((1 + redundancy) * diagonal_BVW + redundancy * all_BVW)


def assert_close(table, z_BVD, redundancy):
    assert table.dtype == torch.float32
    error = (table - reference.share_table(z_BVD.double(), redundancy)).abs()
    assert bool((error <= bound_of(z_BVD, redundancy)).all())


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 12), st.floats(0, 2), st.integers(0, 99))
def test_shares_add_up_to_the_loss(images, views, length, redundancy, seed):
    z = standardised(images, views, length, seed).double()
    shares = reference.share_table(z, redundancy)
    for i in range(views):
        for j in range(views):
            correlation = z[:, i].T @ z[:, j] / images
            apart = (correlation - torch.eye(length)).square()
            loss = apart.diagonal().sum() + redundancy * (apart.sum() - apart.diagonal().sum())
            torch.testing.assert_close(shares[:, i, j].mean(), loss, rtol=1e-12, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(1, 12), st.integers(1, 4), st.integers(1, 30), st.floats(0, 2), st.integers(0, 99))
def test_blocks_of_any_size_give_the_table(data, images, views, length, redundancy, seed):
    z = standardised(images, views, length, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "CPU_BLOCK", data.draw(st.integers(1, 200)))
        patch.setattr(blocks, "LENGTH", data.draw(st.integers(1, length + 1)))
        with matmul_precision(data.draw(st.sampled_from(["highest", "high"]))):
            table = blocks.share_table(z, z, redundancy)
    assert torch.equal(table, table.transpose(1, 2))
    assert_close(table, z, redundancy)


def test_images_of_all_processes_make_the_correlation():
    z = standardised(12, 3, 7)
    whole = blocks.share_table(z, z, 0.3)
    for start, stop in ((0, 5), (5, 12)):
        own = blocks.share_table(z[start:stop], z, 0.3)
        error = (own - whole[start:stop]).abs()
        assert bool((error <= 2 * bound_of(z, 0.3)[start:stop]).all())


@pytest.mark.parametrize("bits", [8, 11])
def test_tensor_cores_do_not_reach_it(bits):
    z = standardised(20, 3, 64)
    with tensor_cores(bits):
        table = blocks.share_table(z, z, 1.0)
    assert_close(table, z, 1.0)


def test_autocast_does_not_reach_it():
    z = standardised(20, 3, 64)
    expected = blocks.share_table(z, z, 1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(blocks.share_table(z, z, 1.0), expected)


def test_a_nan_stays_in_its_view():
    z = standardised(6, 3, 5)
    z[4, 1] = torch.nan
    nan = torch.zeros(6, 3, 3, dtype=torch.bool)
    nan[:, 1] = nan[:, :, 1] = True
    assert torch.equal(blocks.share_table(z, z, 0.1).isnan(), nan)


@pytest.mark.parametrize("precision", ["highest", "high"])
def test_neither_the_matrices_of_the_pairs_nor_all_similarities_exist_at_a_time(precision):
    images, views, length = 512, 4, 600
    z = standardised(images, views, length)
    with matmul_precision(precision), LargestTensor() as largest:
        blocks.share_table(z, z, 0.005)
    inputs = z.numel() * (1 if precision == "highest" else 6)
    assert largest.elements <= max(blocks.CPU_BLOCK, inputs)
    if precision == "highest":
        assert largest.elements < min(views**2 * length**2, (images * views) ** 2) / 2


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_same_table():
    z = standardised(300, 3, 64)
    with matmul_precision("high"):
        assert_close(blocks.share_table(z.cuda(), z.cuda(), 0.1).cpu(), z, 0.1)
