"""Epochs of mixtures: how often what comes, in which order, and the same after every resume on any number of ranks."""

# Axes: N image, P part, D draw.

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, Subset

import hvs_data as hvs
from hvs_data.errors import SourceError
from hvs_data.loaders.mixing import order_of
from hvs_data.sources.mixture import Mixture
from hvs_data.types import Batch

RECIPE = hvs.recipes.simsiam(candidates=2, size=8)


class Numbered(hvs.Source):
    """Images that hold their number, with labels that are known or not."""

    def __init__(self, length: int, first: int = 0, labels: Any = None, classes: tuple[str, ...] = ()):
        self.length, self.first, self.classes = length, first, classes
        if labels is not None:
            self.labels = np.asarray(labels)

    def __len__(self) -> int:
        return self.length

    def read(self, index: int) -> hvs.Sample:
        draw = np.random.default_rng(self.first + index)
        return hvs.Sample(draw.integers(0, 256, (9, 10, 3), dtype=np.uint8), int(self.labels[index]) if hasattr(self, "labels") else -1)

    @property
    def fingerprint(self) -> str:
        return f"{self.length} from {self.first}"


def keys(source: Mixture, seed: int = 0, epoch: int = 0, shuffle: bool = True) -> np.ndarray:
    return order_of(source, seed, epoch, shuffle)(np.arange(source.images))


def counts(source: Mixture, seed: int = 0, epoch: int = 0) -> np.ndarray:
    return np.bincount(keys(source, seed, epoch) % len(source), minlength=len(source))


# --- how often ---------------------------------------------------------------------------------------------------------


def test_without_more_every_epoch_holds_every_image_once() -> None:
    source = hvs.mixture(Numbered(37), Numbered(5, 100))
    first, second = keys(source, epoch=0), keys(source, epoch=1)
    assert sorted(first) == list(range(42)) and sorted(second % 42) == list(range(42)) and first.tolist() != (second % 42).tolist()


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    shares=st.lists(st.floats(0.05, 1), min_size=5, max_size=5),
    images=st.integers(120, 300),
    seed=st.integers(0, 2**64 - 1),
)
def test_shares_hold_in_every_epoch_and_sources_are_gone_through_evenly(
    lengths: list[int], shares: list[float], images: int, seed: int
) -> None:
    share = np.array(shares[: len(lengths)])
    source = hvs.mixture(*(Numbered(length, 1000 * number) for number, length in enumerate(lengths)), shares=share.tolist(), images=images)
    seen = np.zeros(len(source), int)
    for epoch in range(5):
        its = keys(source, seed, epoch)
        assert len(set(its.tolist())) == images  # a key is of one time of one image
        count_N = np.bincount(its % len(source), minlength=len(source))
        part_P = np.add.reduceat(count_N, source.first_P[:-1])
        assert part_P.sum() == images and np.abs(part_P - share / share.sum() * images).max() < 1
        seen += count_N
        for part in range(len(lengths)):
            of_part = seen[source.first_P[part] : source.first_P[part + 1]]
            assert of_part.max() - of_part.min() <= 1


def test_every_source_has_an_order_of_its_own_in_every_pass() -> None:
    source = hvs.mixture(Numbered(40), Numbered(40, 40), shares=[1, 1], images=80)
    orders = []
    for epoch in range(2):
        # their draws in the order of their numbers
        drawn = order_of(source, 0, epoch, True)._of_parts(np.arange(80))[0]  # type: ignore[attr-defined]
        orders += [tuple(drawn[:40]), tuple(drawn[40:] - 40)]
    assert all(sorted(order) == list(range(40)) for order in orders) and len(set(orders)) == 4


@pytest.mark.parametrize("seed", range(5))
def test_sources_are_mixed_all_over_an_epoch(seed: int) -> None:
    """In 400 of 4,000 positions a share of .25 comes 100 times. Drawn without replacement the deviation is below that of the binomial
    law, 8.7; six of these are passed once in 5e8 times."""
    source = hvs.mixture(Numbered(50), Numbered(5000, 50), shares=[1, 3], images=4000)
    of_first = keys(source, seed) % len(source) < 50
    assert of_first.sum() == 1000
    for start in range(0, 4000, 400):
        assert abs(int(of_first[start : start + 400].sum()) - 100) < 6 * np.sqrt(400 * 0.25 * 0.75)


def test_weights_hold_in_every_epoch_and_on_average() -> None:
    """One draw falls into each of D equal parts of the sum. An interval of length L of them holds all of those inside it and perhaps the
    two at its ends, so the count is off by less than 2; by chance at the two ends only, with a variance of at most 1/4 each."""
    draw = np.random.default_rng(0)
    weights = draw.exponential(size=50) * (draw.random(50) > 0.3)
    source = hvs.mixture(Numbered(30), Numbered(20, 30), weights=weights, images=173)
    expected = weights / weights.sum() * 173
    epochs = 400
    every = np.array([counts(source, epoch=epoch) for epoch in range(epochs)])
    assert (every.sum(1) == 173).all() and (every[:, weights == 0] == 0).all()
    assert np.abs(every - expected).max() < 2
    assert np.abs(every.mean(0) - expected).max() < 6 * np.sqrt(0.5 / epochs)
    for epoch in range(20):
        assert len(set(keys(source, epoch=epoch).tolist())) == 173


def test_the_last_image_with_a_weight_is_the_last_that_is_drawn() -> None:
    source = hvs.mixture(Numbered(6), weights=[0, 1e-30, 0, 1e30, 0, 0], images=1000)
    assert set((keys(source) % 6).tolist()) == {3}
    assert len(set(keys(hvs.mixture(Numbered(3), weights=[0.1, 0.1, 0.1], images=2**16)).tolist())) == 2**16


def test_classes_are_balanced_or_have_their_shares() -> None:
    labels = [0] * 60 + [1] * 6 + [2] * 30 + [-1] * 4
    first = Numbered(50, labels=labels[:50], classes=("a", "b", "c"))
    second = Numbered(50, 50, labels=labels[50:], classes=("a", "b", "c"))
    balanced = hvs.mixture(first, second, classes="balanced")
    for epoch in range(3):
        of_class = [counts(balanced, epoch=epoch)[np.array(labels) == label] for label in (0, 1, 2, -1)]
        assert sorted(int(of.sum()) for of in of_class[:3]) == [33, 33, 34] and of_class[3].sum() == 0
        assert of_class[1].max() - of_class[1].min() <= 1
    shares = hvs.mixture(first, second, classes={"a": 1, 2: 3}, images=40)
    assert [int(counts(shares)[np.array(labels) == label].sum()) for label in (0, 1, 2, -1)] == [10, 0, 30, 0]


@pytest.mark.parametrize("images", [40, 41])
def test_repeats_follow_one_another_and_have_other_views(images: int) -> None:
    source = hvs.mixture(Numbered(30), images=images, repeats=3)
    its = keys(source, seed=2)
    assert len(set(its.tolist())) == images
    index = its % 30
    assert all(index[3 * draw] == index[3 * draw + 1] == index[min(3 * draw + 2, images - 1)] for draw in range(images // 3))
    assert len(set(index[::3].tolist())) == source.draws == 14
    (batch,) = hvs.ViewLoader(source, RECIPE, images, seed=2)
    assert batch.index.tolist() == index.tolist()
    assert not torch.equal(batch.views[0][0], batch.views[0][1]) and not torch.equal(batch.views[0][1], batch.views[0][2])


def test_a_billion_images_need_no_memory() -> None:
    tracemalloc.start()
    try:
        source = hvs.mixture(Numbered(10**9), Numbered(7, 5), shares=[2, 1], repeats=2)
        order = order_of(source, 3, 8, True)
        positions = np.array([0, 1, 2, 10**9, 2 * 10**9 + 13])
        its = order(positions)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20 and its.shape == (5,) and (its >= 0).all() and its[0] % len(source) == its[1] % len(source)
    assert [int(order(position)) for position in positions] == its.tolist()


# --- by identity -------------------------------------------------------------------------------------------------------

WAYS: dict[str, dict[str, Any]] = {
    "shares": {"shares": [1, 2], "images": 23},
    "weights": {"weights": np.arange(20) + 1.0, "images": 31},
    "classes": {"classes": "balanced", "images": 30},
    "repeats": {"shares": [1, 1], "repeats": 3, "images": 26},
    "indices": {"indices": lambda epoch: np.random.default_rng(epoch).integers(0, 20, 19)},
}


def mixed(way: str) -> Mixture:
    return hvs.mixture(Numbered(8, labels=[0] * 8), Numbered(12, 8, labels=[0] * 3 + [1] * 9), **WAYS[way])


@pytest.mark.parametrize("way", WAYS)
def test_a_position_alone_says_what_comes(way: str) -> None:
    source = mixed(way)
    whole = keys(source, 4, 7)
    order = order_of(mixed(way), 4, 7, True)
    some = np.random.default_rng(0).permutation(source.images)
    assert order(some).tolist() == whole[some].tolist()
    assert [int(order(position)) for position in range(source.images)] == whole.tolist()
    assert order(some.reshape(1, -1) + source.images).tolist() == [whole[some].tolist()]  # past the end it begins anew
    assert whole.tolist() != keys(source, 4, 8).tolist()
    if way != "indices":
        assert whole.tolist() != keys(source, 5, 7).tolist()


def joined(per_rank: list[list[Batch]]) -> dict[str, list[Any]]:
    """All steps of all ranks, in the order of positions."""
    steps = [batch for step in zip(*per_rank, strict=True) for batch in step]
    views = [torch.stack([view[b] for view in batch.views]) for batch in steps for b in range(len(batch.index))]
    return {"index": [int(index) for batch in steps for index in batch.index], "views": views}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_resume_on_any_number_of_ranks_is_exact(way: str, ranks: int) -> None:
    def run(world_size: int, state: dict[str, Any] | None, steps: int | None) -> tuple[list[list[Batch]], dict[str, Any]]:
        per_rank = []
        for rank in range(world_size):
            loader = hvs.ViewLoader(mixed(way), RECIPE, 2, seed=9, rank=rank, world_size=world_size, num_threads=1 + rank % 2)
            loader.set_epoch(1)
            if state is not None:
                loader.load_state_dict(state)
            batches = []
            for batch in loader:
                batches.append(batch)
                if len(batches) == steps:
                    break
            per_rank.append(batches)
        return per_rank, loader.state_dict()

    whole = joined(run(1, None, None)[0])
    begun, state = run(ranks, None, 2)
    assert state["epoch"] == 1 and state["position"] == 4 * ranks
    for world_size in (1, 2, 3):
        first, rest = joined(begun), joined(run(world_size, state, None)[0])
        images = len(whole["index"])
        assert (first["index"] + rest["index"])[:images] == whole["index"]
        assert all(map(torch.equal, (first["views"] + rest["views"])[:images], whole["views"]))


def test_the_sampler_tells_the_indices_of_the_loader() -> None:
    loader = hvs.ViewLoader(mixed("weights"), RECIPE, 4, seed=1)
    told = list(loader.sampler)
    assert told == [int(index) for batch in loader for index in batch.index] and max(told) < 20 and len(told) == 31


def test_another_mixture_is_no_resume() -> None:
    sources = Numbered(8), Numbered(12, 8)
    made = [
        hvs.mixture(*sources, **options)
        for options in ({}, {"shares": [1, 1]}, {"weights": [1] * 20}, {"images": 21}, {"images": 20, "repeats": 2})
    ]
    assert len({source.fingerprint for source in made}) == len(made)
    assert hvs.mixture(*sources, shares=[2, 2]).fingerprint == made[1].fingerprint
    state = hvs.ViewLoader(made[0], RECIPE, 4).state_dict()
    with pytest.raises(hvs.HvsError, match="fingerprint"):
        hvs.ViewLoader(made[1], RECIPE, 4).load_state_dict(state)


def test_without_shuffling_parts_come_one_after_another() -> None:
    source = hvs.mixture(Numbered(4), Numbered(6, 4), shares=[1, 1], images=6)
    assert [(keys(source, epoch=epoch, shuffle=False) % 10).tolist() for epoch in (0, 1)] == [[0, 1, 2, 4, 5, 6], [3, 0, 1, 7, 8, 9]]


def test_indices_of_ones_own_come_in_their_order() -> None:
    source = hvs.mixture(Numbered(10), indices=[3, 3, 9, 0, 3], repeats=2)
    assert source.images == 10 and (keys(source) % 10).tolist() == [3, 3, 3, 3, 9, 9, 0, 0, 3, 3] and len(set(keys(source).tolist())) == 10
    changing = hvs.mixture(Numbered(10), indices=lambda epoch: [1] * (3 + epoch))
    assert keys(changing, epoch=0).size == 3
    with pytest.raises(SourceError, match="expected 3 whole numbers in .0, 10. as indices of epoch 1"):
        keys(changing, epoch=1)


# --- beside the rest ---------------------------------------------------------------------------------------------------


def test_folders_are_mixed_and_bad_images_replaced(photos: Path, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes((photos / f"cat/0{number}.jpg").read_bytes() if number else b"broken")
    source = hvs.mixture(photos, tmp_path, shares=[1, 1], images=20)
    loader = hvs.ViewLoader(source, RECIPE, 10, cache="memory", max_bad_share=0.1)
    batches = [batch for _ in range(2) for batch in loader]
    assert sum(len(batch.index) for batch in batches) == 40 and set(loader.quarantine.reasons) == {22}
    assert sum(int((batch.index >= 22).sum()) for batch in batches) > 5
    plain = [batch for loader in [hvs.ViewLoader(source, RECIPE, 10, max_bad_share=0.1)] for _ in range(2) for batch in loader]
    assert all(torch.equal(a, b) for ours, its in zip(batches, plain, strict=True) for a, b in zip(ours.views, its.views, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shares": [1]}, "expected 2 numbers of at least 0"),
        ({"shares": [1, -1]}, "not all 0, as shares"),
        ({"shares": [0, 0]}, "not all 0"),
        ({"shares": [1, float("nan")]}, "as shares"),
        ({"shares": [1000, 1], "images": 10}, "shares of at least one image in an epoch of 10"),
        ({"weights": [1] * 19}, "expected 20 numbers"),
        ({"weights": [1] * 20, "shares": [1, 1]}, "expected one of shares, weights, classes and indices, got shares and weights"),
        ({"classes": "equal"}, 'expected classes to be "balanced"'),
        ({"classes": {7: 1}}, "expected classes that the sources hold, got 7"),
        ({"indices": [20]}, r"in \[0, 20\) as indices"),
        ({"indices": [0.5]}, "whole numbers"),
        ({"indices": [1, 2], "images": 3}, "expected images=2, as indices are, got 3"),
        ({"images": 0}, "images must be a whole number of at least 1"),
        ({"repeats": 0}, "repeats must be a whole number of at least 1"),
    ],
)
def test_what_means_nothing_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        hvs.mixture(Numbered(8, labels=[0] * 8), Numbered(12, 8, labels=[1] * 12), **options)


def test_what_would_lose_the_mixture_is_refused() -> None:
    source = hvs.mixture(Numbered(8))
    for lose in (lambda: hvs.mixture(source), lambda: hvs.open_source(source, label=None), lambda: hvs.open_source(Subset(source, [0]))):
        with pytest.raises(SourceError, match="mixture"):
            lose()
    with pytest.raises(SourceError, match="mixture"):
        hvs.open_source(ConcatDataset([source, Numbered(3)]))
    with pytest.raises(SourceError, match="labels are known without reading.*pass weights="):
        hvs.mixture(Numbered(8), classes="balanced")
    with pytest.raises(SourceError, match="hold images"):
        hvs.mixture()
