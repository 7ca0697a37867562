"""Resuming: from any stop to any number of ranks and batch size, by way of torch's checkpoints and other people's conventions."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hvs_data as hvs
from hvs_data.errors import HvsError
from hvs_data.loaders.order import EpochOrder

RECIPE = hvs.recipes.simsiam(candidates=2, size=8)
SEED = 5


class Flat(hvs.Objective):
    """Scores pixels as they are."""

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.flatten(1)


def arrays(length: int) -> list[np.ndarray]:
    return [np.full((6 + number % 3, 7, 3), number, dtype=np.uint8) for number in range(length)]


# a stretch of a run: ranks, images of a rank's batch, and steps until it is stopped
STRETCH = st.tuples(st.sampled_from([1, 2, 3, 4]), st.integers(1, 7), st.integers(0, 5))


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 40), stretches=st.lists(STRETCH, min_size=1, max_size=6), last=STRETCH, threads=st.integers(1, 3))
def test_any_stops_and_ranks_give_the_same_samples_and_rows(length: int, stretches: list[Any], last: Any, threads: int) -> None:
    images = arrays(length)
    state: dict[str, Any] | None = None
    samples: list[int] = []
    for number, (ranks, batch_size, steps) in enumerate([*stretches, last]):
        loaders = [
            hvs.ViewLoader(images, RECIPE, batch_size, seed=SEED, num_threads=threads, prefetch=number % 3, rank=rank, world_size=ranks)
            for rank in range(ranks)
        ]
        for loader in loaders:
            if state is not None:
                loader.load_state_dict(state)
            loader.set_epoch(0)
        iterators = [iter(loader) for loader in loaders]
        taken = steps if number < len(stretches) else length
        for _ in range(taken):
            batches = [next(iterator, None) for iterator in iterators]
            # no rank makes a step that another one does not
            assert len({batch is None for batch in batches}) == 1
            if batches[0] is None:
                break
            for batch in batches:
                assert batch is not None
                samples += batch.index.tolist()
                height, width = 6 + batch.index % 3, torch.full_like(batch.index, 7)
                expected = hvs.sample_views(RECIPE, seed=SEED, epoch=0, index=batch.index, height=height, width=width)
                assert all(torch.equal(a, b) for a, b in zip(batch.params.tensors().values(), expected.tensors().values(), strict=True))
        states = [loader.state_dict() for loader in loaders]
        assert all(other == states[0] for other in states)
        state = states[0]
        for iterator in iterators:
            iterator.close()  # type: ignore[attr-defined]
        if state["epoch"] > 0 or state["position"] == length:
            break
    assert state is not None and (state["epoch"], state["position"]) in ((1, 0), (0, length))
    # only an epoch's last step is filled up, by less than a sample a rank
    assert length <= len(samples) < length + 4
    assert samples[:length] == EpochOrder(length, SEED, 0)(range(length)).tolist()


# --- checkpoints of torch ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hard", [False, True])
def test_a_state_lives_in_a_checkpoint_of_torch(photos: Path, hard: bool) -> None:
    def make() -> Any:
        loader = hvs.ViewLoader(photos, RECIPE, batch_size=4)
        return hvs.HardViewLoader(loader, hvs.HardViewSelector(Flat(), policy="softmax")) if hard else loader

    loader = make()
    iterator = iter(loader)
    for _ in range(2):
        next(iterator)
    file = io.BytesIO()
    torch.save({"model": {}, "loader": loader.state_dict()}, file)
    expected = list(iterator)
    file.seek(0)
    resumed = make()
    resumed.load_state_dict(torch.load(file, weights_only=True)["loader"])
    for a, b in zip(resumed, expected, strict=True):
        assert torch.equal(a.index, b.index) and all(torch.equal(x, y) for x, y in zip(a.views, b.views, strict=True))


# --- when trainers ask for a state, and when they give one back ---------------------------------------------------------------


def test_a_state_may_be_asked_for_at_any_time(photos: Path) -> None:
    """As torchdata's StatefulDataLoader allows: before the first batch, after each, after the last, and after the end."""
    loader = hvs.ViewLoader(photos, RECIPE, batch_size=8)
    whole = [batch.index.tolist() for _ in range(2) for batch in loader]
    loader.set_epoch(0)
    states = [loader.state_dict()]
    iterator = iter(loader)
    states.append(loader.state_dict())
    taken = [0, 0]
    for number, _ in enumerate(iterator, start=1):
        states.append(loader.state_dict())
        taken.append(number)
    states.append(loader.state_dict())
    taken.append(3)
    places = [(state["epoch"], state["position"]) for state in states]
    assert places == [(0, 0), (0, 0), (0, 8), (0, 16), (0, 22), (1, 0)]
    for state, done in zip(states, taken, strict=True):
        resumed = hvs.ViewLoader(photos, RECIPE, batch_size=8)
        resumed.load_state_dict(state)
        assert resumed.state_dict() == state
        rest = []
        while resumed.state_dict()["epoch"] < 2:
            rest += [batch.index.tolist() for batch in resumed]
        assert rest == whole[done:]


def test_a_state_saved_with_the_last_batch_leaves_an_epoch_of_nothing(photos: Path) -> None:
    """So a loop over epochs, resumed in the epoch of the checkpoint, repeats and skips nothing."""
    loader = hvs.ViewLoader(photos, RECIPE, batch_size=11)
    for _ in loader:
        state = loader.state_dict()
    resumed = hvs.ViewLoader(photos, RECIPE, batch_size=11)
    resumed.load_state_dict(state)
    seen = []
    for epoch in (0, 1):
        resumed.set_epoch(epoch)
        seen.append([batch.epoch for batch in resumed])
    assert seen == [[], [1, 1]]


def test_an_older_iteration_does_not_move_the_place(photos: Path) -> None:
    loader = hvs.ViewLoader(photos, RECIPE, batch_size=8)
    older = iter(loader)
    next(older)
    newer = iter(loader)
    next(newer)
    list(older)
    assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (1, 8)
    loader.load_state_dict({**loader.state_dict(), "epoch": 4, "position": 16})
    list(newer)
    assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (4, 16)
    assert [batch.epoch for batch in loader] == [4]


def test_an_iterator_that_is_not_used_takes_no_epoch(photos: Path) -> None:
    """Lightning makes one to see whether it can, and another one before it names the epoch."""
    loader = hvs.ViewLoader(photos, RECIPE, batch_size=11)
    iter(loader)
    iterator = iter(loader)
    loader.set_epoch(3)
    assert [batch.epoch for batch in iterator] == [3, 3]
    assert [batch.epoch for batch in loader] == [4, 4]


def test_naming_the_epoch_that_is_under_way_leaves_its_place(photos: Path) -> None:
    loader = hvs.ViewLoader(photos, RECIPE, batch_size=8)
    iterator = iter(loader)
    next(iterator)
    loader.set_epoch(0)
    next(iterator)
    assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (0, 16)


def test_the_place_after_an_epoch_is_where_the_next_iteration_begins(photos: Path) -> None:
    loader = hvs.ViewLoader(photos, RECIPE, batch_size=11)
    for _ in loader:
        loader.set_epoch(7)
    assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (7, 0)
    assert [batch.epoch for batch in loader] == [7, 7]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, "expected the dictionary of state_dict"),
        ({}, "version 1, got None"),
        ({"epoch": None}, "state's epoch must be a whole number"),
        ({"epoch": -1}, "state's epoch"),
        ({"position": 1.5}, "state's position must be a whole number"),
        ({"position": -4}, "state's position"),
    ],
)
def test_a_state_that_means_nothing_is_refused(photos: Path, state: Any, message: str) -> None:
    loader = hvs.ViewLoader(photos, RECIPE, batch_size=8)
    before = loader.state_dict()
    with pytest.raises(HvsError, match=message):
        loader.load_state_dict({**before, **state} if state else state)
    assert loader.state_dict() == before
