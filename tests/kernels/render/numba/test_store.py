"""Number formats of the output against torch's own conversions, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hvs_data.kernels.render.numba.store import BFLOAT16, FLOAT16, FLOAT32, UINT8, finish_row, solarize_row, store_row

FORMATS = {
    torch.float32: (FLOAT32, np.float32),
    torch.float16: (FLOAT16, np.uint16),
    torch.bfloat16: (BFLOAT16, np.uint16),
    torch.uint8: (UINT8, np.uint8),
}


def stored(values: np.ndarray, dtype: torch.dtype, stride: int = 1, offset: int = 0) -> torch.Tensor:
    """A row as the kernel writes it, in memory full of ones."""
    kind, carrier = FORMATS[dtype]
    row = np.ascontiguousarray(values, dtype=np.float32)
    out = np.ones(offset + max(1, row.size) * stride + 3, carrier)
    store_row(row, row.size, kind, out, offset, stride)
    written = np.zeros(out.size, bool)
    written[offset : offset + row.size * stride : stride] = True
    assert (out[~written] == 1).all(), "wrote beside the row"
    memory = torch.from_numpy(out[written])
    return memory.view(dtype) if carrier is np.uint16 else memory


def neighbourhood(exact: np.ndarray) -> np.ndarray:
    """Values of a narrower format, what lies halfway between two of them, and the float32 numbers next to all of these; both signs."""
    exact = np.unique(exact[np.isfinite(exact)])
    halfway = ((exact[1:].astype(np.float64) + exact[:-1]) / 2).astype(np.float32)
    with np.errstate(over="ignore"):
        near = [np.nextafter(values, np.float32(to)) for values in (exact, halfway) for to in (-np.inf, np.inf)]
    everything = np.concatenate([exact, halfway, *near, -exact])
    return everything[np.isfinite(everything)]


def every_value(dtype: torch.dtype) -> np.ndarray:
    return torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(dtype).float().numpy()


def assert_same_bits(actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert actual.dtype == expected.dtype
    assert torch.equal(actual.view(torch.int16), expected.view(torch.int16))


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_value_tie_and_neighbour_is_rounded_as_torch_rounds(dtype: torch.dtype, stride: int) -> None:
    """All normal and subnormal numbers of the format, ties between any two, and both sides of each."""
    values = neighbourhood(every_value(dtype))
    assert values.size > 3 * 2**16 - 2**12
    assert_same_bits(stored(values, dtype, stride), torch.from_numpy(values).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_ends_of_the_format(dtype: torch.dtype) -> None:
    smallest = torch.finfo(dtype).tiny * torch.finfo(dtype).eps
    largest = torch.finfo(dtype).max
    values = [0.0, smallest, smallest / 2, np.nextafter(np.float32(smallest / 2), np.float32(1)), smallest * 1.5, 2.0**-149, 2.0**-126]
    # from halfway between the largest number and the next one on, it becomes infinite
    step = largest * torch.finfo(dtype).eps
    values += [largest, min(largest + step / 8, 3.4e38), 65519.996, 65520.0, 65536.0, 1e30, float(np.finfo(np.float32).max)]
    row = np.array([sign * value for value in values for sign in (1, -1)], dtype=np.float32)
    assert np.isfinite(row).all()
    expected = torch.from_numpy(row).to(dtype)
    assert expected.isinf().any() and torch.signbit(expected[1])
    assert_same_bits(stored(row, dtype), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=40))
def test_any_finite_number_is_rounded_as_torch_rounds(dtype: torch.dtype, values: list[float]) -> None:
    row = np.array(values, dtype=np.float32)
    assert_same_bits(stored(row, dtype), torch.from_numpy(row).to(dtype))


@pytest.mark.parametrize("stride", [1, 3])
def test_levels_of_8_bits_are_rounded_half_up(stride: int) -> None:
    levels = np.arange(256, dtype=np.float32)
    exact = np.arange(256, dtype=np.uint8)
    assert np.array_equal(stored(levels, torch.uint8, stride).numpy(), exact)
    # the float32 number next below a half, where adding a half does not round it up to the next level: from 1 on
    below = np.nextafter(levels[1:255] + np.float32(0.5), np.float32(0))
    assert np.array_equal(stored(below, torch.uint8, stride).numpy(), exact[1:255])
    assert np.array_equal(stored(levels[:255] + np.float32(0.5), torch.uint8, stride).numpy(), exact[1:])
    # what a blur's rounding may leave below black and above white
    assert stored(np.array([-0.49, 255.49]), torch.uint8, stride).tolist() == [0, 255]


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize(("size", "stride", "offset"), [(1, 1, 0), (5, 1, 7), (5, 3, 1), (8, 2, 0), (0, 1, 2), (0, 3, 2)])
def test_a_row_goes_to_its_place(dtype: torch.dtype, size: int, stride: int, offset: int) -> None:
    row = np.arange(size, dtype=np.float32) * 3
    assert stored(row, dtype, stride, offset).float().tolist() == row.tolist()


@pytest.mark.parametrize("solarize", [False, True])
def test_a_row_is_solarized_then_scaled(solarize: bool) -> None:
    threshold, scale, bias = np.float32(0.5), np.float32(4), np.float32(-1)
    row = np.array([0, 0.25, np.nextafter(np.float32(0.5), np.float32(0)), 0.5, 0.75, 1], np.float32)
    before = row.astype(np.float64)
    if solarize:
        solarize_row(row, row.size, threshold)
    finish_row(row, row.size, scale, bias)
    kept = np.where(before >= 0.5, 1 - before, before) if solarize else before
    # a power of two and a whole number: exact but for the sum's one rounding
    assert np.array_equal(row, (kept * 4 - 1).astype(np.float32))
