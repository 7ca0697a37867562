"""Batches that are fetched, kept and trained on later were chosen with weights of another time: that is told, and nothing else is."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
import torch

import hvs_data as hvs
from small_simsiam import SmallSimSiam

RECIPE = hvs.recipes.simsiam(candidates=3, size=16)


def made(photos: Path, **options: Any) -> tuple[SmallSimSiam, hvs.HardViewLoader]:
    torch.manual_seed(0)
    model = SmallSimSiam()
    views = hvs.ViewLoader(photos, RECIPE, batch_size=4, num_threads=1, **options)
    return model, hvs.HardViewLoader(views, hvs.HardViewSelector(hvs.objectives.SimSiam(model)))


def train(model: SmallSimSiam, batches: Iterable[Any]) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for views, _ in batches:
        model(*views).backward()
        optimizer.step()
        optimizer.zero_grad()


KEEPING: dict[str, Callable[[hvs.HardViewLoader], Iterable[Any]]] = {
    "list": list,
    "some of them": lambda hard: list(islice(hard, 3)),
    "cycle": lambda hard: islice(cycle(hard), 2 * len(hard)),
    "in another order": lambda hard: list(hard)[::-1],
}


@pytest.mark.parametrize(
    "form", [None, hvs.formats.views_and_labels, hvs.formats.as_dict, hvs.formats.stacked], ids=["batch", "pair", "dict", "stack"]
)
@pytest.mark.parametrize("how", KEEPING)
def test_batches_that_are_kept_and_trained_on_are_told_of_once(photos: Path, how: str, form: Any) -> None:
    """Mechanism: without a sign of training before the loader is asked again, nothing told of `list(loader)`, nor of `cycle`."""
    model, hard = made(photos)
    hard.format = form
    weights = list(model.parameters())
    with pytest.warns(hvs.StaleSelectionWarning, match=r"batches that were all kept.*Iterate over the loader itself") as caught:
        batches = KEEPING[how](hard)
        for batch in batches:
            views = batch["views"] if isinstance(batch, dict) else batch[0]
            model(*(views.unbind(1) if isinstance(views, torch.Tensor) else views)).backward()
            with torch.no_grad():
                for weight in weights:
                    weight -= 0.01 * weight.grad  # type: ignore[operator]
                    weight.grad = None
    assert len([warning for warning in caught if issubclass(warning.category, hvs.StaleSelectionWarning)]) == 1
    assert all(not weight._post_accumulate_grad_hooks for weight in weights)


def test_selections_of_a_kept_list_are_stale_indeed(photos: Path) -> None:
    model, hard = made(photos)
    kept = list(hard)
    with pytest.warns(hvs.StaleSelectionWarning):
        train(model, kept[:1])
    assert [hard.selector.is_fresh(batch.selection) for batch in kept] == [False] * len(kept)


def epochs(hard: hvs.HardViewLoader) -> Iterable[Any]:
    for _ in range(3):
        yield from hard


LETTING_GO: dict[str, Callable[[SmallSimSiam, hvs.HardViewLoader, Path], Any]] = {
    "epochs": lambda model, hard, photos: train(model, epochs(hard)),
    "zip with a longer loader": lambda model, hard, photos: train(model, (batch for batch, _ in zip(hard, range(100), strict=False))),
    "zip behind a longer loader": lambda model, hard, photos: train(model, (batch for _, batch in zip(range(100), hard, strict=False))),
    "a look at some, then epochs": lambda model, hard, photos: (kept := list(islice(hard, 3)), train(model, epochs(hard)), kept),
    "one batch again and again": lambda model, hard, photos: train(model, [next(iter(hard))] * 6),
    "a look at all without training": lambda model, hard, photos: (kept := list(hard), hvs.iou(kept[0].params)),
    "batches of another loader": lambda model, hard, photos: (kept := list(made(photos)[1]), train(model, hard), kept),
    "random views": lambda model, hard, photos: train(
        model, list(hvs.HardViewLoader(hard.loader, hvs.HardViewSelector(hard.selector.objective, policy="random")))
    ),
}


@pytest.mark.parametrize("how", LETTING_GO)
def test_nothing_else_is_told_of(photos: Path, how: str) -> None:
    model, hard = made(photos)
    with warnings.catch_warnings():
        warnings.simplefilter("error", hvs.StaleSelectionWarning)
        LETTING_GO[how](model, hard, photos)


def test_a_zip_with_a_longer_loader_is_fresh(photos: Path) -> None:
    model, hard = made(photos)
    for batch, _ in zip(hard, range(100), strict=False):
        assert hard.selector.is_fresh(batch.selection)
        train(model, [batch])
