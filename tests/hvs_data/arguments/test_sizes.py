"""Sizes of views as users write them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hvs_data.arguments.sizes import height_width, plain_size, size_of


@pytest.mark.parametrize(
    ("given", "size"),
    [(224, 224), (np.int64(8), 8), ((7, 9), (7, 9)), ([9, 7], (9, 7)), (np.array([3, 3]), 3), (torch.tensor([2, 5]), (2, 5)), ((4, 4), 4)],
)
def test_equal_sizes_are_equal_whatever_they_were_written_in(given: Any, size: Any) -> None:
    assert plain_size(given) == size and type(plain_size(given)) is type(size)
    assert size_of(*height_width(size)) == size


@pytest.mark.parametrize("given", [0, -1, 8.0, True, None, "8", "88", (8,), (8, 0), (8, 8, 8), (8.0, 8), (8, None), torch.ones(2, 2)])
def test_what_is_no_size(given: Any) -> None:
    assert plain_size(given) is None
