"""What is decided when an object is made cannot be set afterwards, when it would be ignored or half believed."""

from __future__ import annotations

import copy
import inspect

import numpy as np
import pytest
import torch
from torch import Tensor

import hvs_data as hvs

RECIPE = hvs.recipes.simsiam(candidates=3, size=8)


class Distance(hvs.Objective):
    def encode(self, pixels: Tensor) -> Tensor:
        return pixels.mean((2, 3))

    def pair_losses(self, outputs: Tensor) -> Tensor:
        return torch.cdist(outputs, outputs)


def loader() -> hvs.ViewLoader:
    return hvs.ViewLoader([np.full((8, 8, 3), number, np.uint8) for number in range(4)], RECIPE, 2, num_threads=1)


def hard() -> hvs.HardViewLoader:
    return hvs.HardViewLoader(loader(), hvs.HardViewSelector(Distance()))


def arguments(kind: type) -> list[str]:
    return [name for name in inspect.signature(kind).parameters if name != "format"]


@pytest.mark.parametrize("name", [*arguments(hvs.ViewLoader), "dataset", "sampler"])
def test_a_loaders_arguments(name: str) -> None:
    """Mechanism: `loader.recipe = other` took the other's sizes and drew the first one's rows."""
    for made in (loader(), hard()):
        before = [batch.params.size for batch in made]
        with pytest.raises(AttributeError, match=f"{name} is decided when it is made and cannot be set; make another"):
            setattr(made, name, hvs.recipes.simclr(candidates=2) if name == "recipe" else 3)
        assert [batch.params.size for batch in made] == before


@pytest.mark.parametrize("name", ["loader", "selector"])
def test_a_hard_loaders_own(name: str) -> None:
    with pytest.raises(AttributeError, match="HardViewLoader.* is decided"):
        setattr(hard(), name, None)


@pytest.mark.parametrize(
    "name",
    ["objective", "budget", "quantile", "temperature", "every", "probability", "warmup", "seed", "keep_tokens", "compile", "allowed"],
)
def test_a_selectors(name: str) -> None:
    with pytest.raises(AttributeError, match=f"HardViewSelector.{name} is decided"):
        setattr(hvs.HardViewSelector(Distance()), name, 2)


def test_what_is_read_anew_can_be_set() -> None:
    made = hard()
    made.format = hvs.formats.as_dict
    made.selector.autocast, made.selector.step = torch.bfloat16, 7
    assert set(next(iter(made))) == {"views", "labels", "index"} and made.selector.step == 8


def test_copies_are_fixed_too() -> None:
    twin = copy.copy(loader())
    with pytest.raises(AttributeError, match="is decided"):
        twin.recipe = RECIPE
