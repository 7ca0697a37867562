"""Which generators a signature asks for."""

from __future__ import annotations

import functools
import random
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import Generator as NumpyGenerator
from torch import nn

from hvs_data.drawing.arguments import asked_generators, handed
from hvs_data.drawing.by_key import uniform
from hvs_data.drawing.numbers import Numbers
from hvs_data.drawing.philox import philox_4x32
from hvs_data.errors import HvsError


def by_name(x, generator, rng=None): ...  # noqa: E704


def by_text(x: Any, a: torch.Generator, *, b: np.random.Generator | None = None, c: random.Random, d: np.random.RandomState): ...  # noqa: E704


def by_another_name(x: Any, draw: NumpyGenerator): ...  # noqa: E704


def other(x: Any, generator: str = "fast", rng: int = 3, *args: Any, **generators: Any): ...  # noqa: E704


class Module(nn.Module):
    def forward(self, x: Any, generator: torch.Generator | None = None): ...  # noqa: E704


class Holder:
    def __call__(self, x: Any, rng: np.random.Generator): ...  # noqa: E704

    def method(self, x: Any, generator: torch.Generator): ...  # noqa: E704


T, N, S, P = torch.Generator, np.random.Generator, np.random.RandomState, random.Random


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (by_name, {"generator": T, "rng": N}),
        (by_text, {"a": T, "b": N, "c": P, "d": S}),
        (by_another_name, {"draw": N}),
        (other, {}),
        (Module(), {"generator": T}),
        (Holder(), {"rng": N}),
        (Holder().method, {"generator": T}),
        (functools.partial(by_name, rng=np.random.default_rng(0)), {"generator": T}),
        (functools.partial(by_another_name), {"draw": N}),
        (torch.relu, {}),
        (abs, {}),
    ],
)
def test_what_is_asked_for(function: Any, expected: dict[str, type]) -> None:
    given = handed(asked_generators(function), Numbers((1,)))
    assert {name: type(generator) for name, generator in given.items()} == expected


def test_uniform_is_philox_of_the_key() -> None:
    keys = [0, 3, 2**62 + 2**33 + 7, 2**63 - 1]
    drawn = uniform(torch.tensor(keys), 6, stream=2)
    for row, key in zip(drawn, keys, strict=True):
        words = philox_4x32((np.arange(2), 2, 0, 0), (key & 0xFFFFFFFF, key >> 32)).ravel()[:6]
        assert row.tolist() == ((words >> 8) * 2.0**-24).tolist()
    assert torch.equal(uniform(torch.tensor(keys), 3, stream=2), drawn[:, :3])
    assert uniform(torch.tensor(keys), 0).shape == (4, 0) and uniform(torch.empty(0, dtype=torch.int64), 2).shape == (0, 2)


@pytest.mark.parametrize("keys", [torch.zeros(3), torch.zeros(3, 1, dtype=torch.int64), [1, 2]], ids=str)
def test_what_is_no_key_is_refused(keys: Any) -> None:
    with pytest.raises(HvsError, match="expected keys of dtype int64"):
        uniform(keys, 2)
