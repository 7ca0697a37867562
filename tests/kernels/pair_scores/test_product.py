"""Float32 products under every setting of PyTorch's precision, on hardware that rounds factors and with such rounding put in."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hvs_data.kernels.pair_scores.product import unrounded_factors
from products import UNIT, RoundsFactors, matmul_precision, tensor_cores


def bound_of(a, b):
    """Of a float32 product whose factors come in parts."""
    # A sum of 6 D terms errs by 6 D units of the sum of their sizes. The parts of a factor add up to at most (1 + 2**-7) of it in size
    # (each is at most 2**-8 of the one before), their products to (1 + 2**-6). The products left out are half a unit at most.
    return (6 * a.shape[-1] + 1) * UNIT * (a.double().abs() @ b.double().abs().mT) * (1 + 2.0**-6)


def errors(a, b):
    a_factor, b_factor = unrounded_factors(a, b)
    return (a_factor @ b_factor.mT - a.double() @ b.double().mT).abs()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 70), st.floats(-20, 20), st.sampled_from([8, 11, 24]), st.integers(0, 2**31))
def test_rounding_of_factors_changes_nothing(rows, columns, length, exponent, bits, seed):
    draw = torch.Generator().manual_seed(seed)
    a = torch.randn(rows, length, generator=draw) * 2**exponent
    b = torch.randn(columns, length, generator=draw)
    with tensor_cores(bits):
        error = errors(a, b)
    assert bool((error <= bound_of(a, b)).all())


@pytest.mark.parametrize("bits", [8, 11])
def test_rounding_of_whole_factors_would_be_seen(bits):
    a, b = torch.randn(8, 64), torch.randn(8, 64)
    with RoundsFactors(bits):
        error = errors(a, b)
    assert bool((error > bound_of(a, b)).any())


def test_the_default_leaves_factors_as_they_are():
    a, b = torch.randn(3, 5), torch.randn(4, 5)
    a_factor, b_factor = unrounded_factors(a, b)
    assert a_factor is a and b_factor is b


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_no_setting_rounds_the_product_on_this_machine(precision):
    a, b = torch.randn(64, 32), torch.randn(64, 32)
    with matmul_precision(precision):
        error = errors(a, b)
    assert bool((error <= bound_of(a, b)).all())


def test_tf32_is_noticed_however_it_is_allowed():
    a, b = torch.randn(3, 5), torch.randn(4, 5)
    settings = torch.backends.cuda.matmul
    ways = {"allow_tf32": (True, False)}
    if hasattr(settings, "fp32_precision"):  # PyTorch 2.9 and later: one for each backend
        ways["fp32_precision"] = ("tf32", "none")
    for name, (allowed, before) in ways.items():
        setattr(settings, name, allowed)
        try:
            assert unrounded_factors(a, b)[0].shape == (3, 30)
        finally:
            setattr(settings, name, before)
        assert unrounded_factors(a, b)[0] is a


def test_leading_axes_stay():
    a, b = torch.randn(2, 3, 5), torch.randn(2, 4, 5)
    with matmul_precision("high"):
        assert [factor.shape for factor in unrounded_factors(a, b)] == [(2, 3, 30), (2, 4, 30)]
        assert bool((errors(a, b) <= bound_of(a, b)).all())
