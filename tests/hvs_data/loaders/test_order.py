"""The order of an epoch and the ranks' shares of it."""

from __future__ import annotations

from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hvs_data.errors import HvsError
from hvs_data.loaders.order import EpochOrder, Shares
from hvs_data.threads.this_rank import current_rank

KEYS = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.integers(1, 300), st.sampled_from([1023, 1024, 1025, 4096, 10007])), KEYS)
def test_every_sample_comes_once(length: int, key: tuple[int, int]) -> None:
    order = EpochOrder(length, *key)
    assert sorted(order(np.arange(length)).tolist()) == list(range(length))


def test_a_position_alone_gives_what_it_gives_among_others() -> None:
    order = EpochOrder(1000, 3, 4)
    whole = order(np.arange(1000))
    assert [int(order(position)) for position in (0, 1, 500, 999)] == whole[[0, 1, 500, 999]].tolist()
    assert order(np.arange(6).reshape(2, 3)).tolist() == whole[:6].reshape(2, 3).tolist()
    assert order(np.arange(0)).shape == (0,)


def test_positions_past_the_end_begin_anew() -> None:
    order = EpochOrder(7, 0, 0)
    assert order(np.arange(7, 21)).tolist() == [*order(np.arange(7)), *order(np.arange(7))]


def test_seed_and_epoch_and_nothing_else_change_the_order() -> None:
    orders = {tuple(EpochOrder(50, seed, epoch)(np.arange(50)).tolist()) for seed in (0, 1, 2**40) for epoch in (0, 1, 2)}
    assert len(orders) == 9
    assert EpochOrder(50, 5, 6)(np.arange(50)).tolist() == EpochOrder(50, 5, 6)(np.arange(50)).tolist()


def test_without_shuffling_it_is_the_sources() -> None:
    assert EpochOrder(5, 1, 2, shuffle=False)(np.arange(7)).tolist() == [0, 1, 2, 3, 4, 0, 1]


def test_a_billion_samples_take_no_memory() -> None:
    order = EpochOrder(10**9, 1, 2)
    index = order(np.arange(4096))
    assert len(set(index.tolist())) == 4096 and 0 <= index.min() and index.max() < 10**9
    # uniform over the source: the largest distance of 4,096 draws' distribution, at a probability of one in a million
    assert stats.kstest(index / 1e9, "uniform").pvalue > 1e-6


@pytest.mark.parametrize("length", [2, 3, 4])
def test_all_orders_are_equally_likely(length: int) -> None:
    draws = 100 * factorial(length)
    orders = [tuple(EpochOrder(length, seed, 0)(np.arange(length)).tolist()) for seed in range(draws)]
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == factorial(length)
    assert stats.chisquare(counts).pvalue > 1e-6


def test_neighbours_are_independent() -> None:
    index = np.stack([EpochOrder(1000, seed, 0)(np.arange(1000)) for seed in range(40)])
    # every sample is equally likely at every hundredth of the epoch, and after every sample
    table, _, _ = np.histogram2d(np.tile(np.arange(1000), 40), index.ravel(), bins=20)
    assert stats.chisquare(table.ravel()).pvalue > 1e-6
    pairs, _, _ = np.histogram2d(index[:, :-1].ravel(), index[:, 1:].ravel(), bins=20)
    assert stats.chisquare(pairs.ravel()).pvalue > 1e-6


def test_the_order_is_the_same_in_every_version() -> None:
    assert EpochOrder(1000, 7, 3)(np.arange(12)).tolist() == GOLDEN


GOLDEN = [986, 811, 170, 728, 809, 404, 96, 408, 631, 623, 5, 76]


@settings(max_examples=200, deadline=None)
@given(
    length=st.integers(1, 400),
    batch_size=st.integers(1, 50),
    world_size=st.integers(1, 5),
    drop_last=st.booleans(),
    data=st.data(),
)
def test_shares_cover_the_rest_of_the_epoch(length: int, batch_size: int, world_size: int, drop_last: bool, data: st.DataObject) -> None:
    shares = Shares(length, batch_size, world_size, drop_last)
    start = position = data.draw(st.integers(0, length))
    dealt: list[int] = []
    for step in range(shares.steps(start)):
        parts = [shares.positions(position, rank).tolist() for rank in range(world_size)]
        sizes = {len(part) for part in parts}
        assert len(sizes) == 1 and 1 <= sizes.pop() <= batch_size  # every rank has as much to do
        if drop_last or step < shares.steps(start) - 1:
            assert len(parts[0]) == batch_size
        dealt += [p for part in parts for p in part]
        position = shares.next_position(position)
    left = length - start
    if drop_last:
        assert dealt == list(range(start, start + left - left % (batch_size * world_size)))
    else:
        # all that is left, and fewer than one for each rank twice
        assert dealt == list(range(start, start + len(dealt))) and left <= len(dealt) < left + world_size
        assert position == length or not left


def test_the_rank_is_taken_from_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert current_rank(None, None) == (0, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert current_rank(None, None) == (2, 4)
    assert current_rank(1, 2) == (1, 2)


@pytest.mark.parametrize(
    ("rank", "world_size", "message"), [(None, 2, "together"), (0, None, "together"), (2, 2, r"\[0, world_size\)"), (-1, 2, "rank")]
)
def test_half_a_rank_is_refused(rank: int | None, world_size: int | None, message: str) -> None:
    with pytest.raises(HvsError, match=message):
        current_rank(rank, world_size)


# --- what stands for a sample that cannot be read ---------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6, 12, 22, 97, 1000])
def test_every_sample_can_stand_for_every_other(length: int) -> None:
    order = EpochOrder(length, 0, 0)
    for position in (0, 1, length - 1, length + 3):
        assert order.stand_in(position, 0) == position % length
        assert sorted(order.stand_in(position, attempt) for attempt in range(length)) == list(range(length))


@pytest.mark.parametrize("length", [97, 1000, 50_000, 1_281_167])
def test_what_stands_for_neighbours_is_far_from_them_and_from_each_other(length: int) -> None:
    order = EpochOrder(length, 0, 0)
    places = [order.stand_in(500, attempt) for attempt in range(4)]
    away = [abs(a - b) for number, a in enumerate(places) for b in places[:number]]
    assert min(min(distance, length - distance) for distance in away) >= length / 7
