"""What stands for an image that cannot be read: another one that is not in the batch already, with views of its own, whatever the ranks."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

import hvs_data as hvs
from hvs_data.loaders.order import EpochOrder

RECIPE = hvs.recipes.simsiam(candidates=2, size=8)
COUNT, SEED = 96, 3
# bad ones, of which some follow one another in the order, so that they come in one batch
BAD = set(EpochOrder(COUNT, SEED, 0)([4, 5, 6, 40]).tolist())


def images(count: int = COUNT, bad: set[int] = BAD) -> list[Any]:
    noise = np.random.default_rng(0).integers(0, 256, (count, 9, 9, 3), dtype=np.uint8)
    return [b"no image" if number in bad else pixels for number, pixels in enumerate(noise)]


def loader(batch_size: int = 12, rank: int = 0, ranks: int = 1, **options: Any) -> hvs.ViewLoader:
    return hvs.ViewLoader(images(), RECIPE, batch_size, seed=SEED, rank=rank, world_size=ranks, **{"engine": "reference", **options})


def joined(batches: list[Any]) -> tuple[list[int], torch.Tensor, torch.Tensor]:
    """Indices [N], boxes [N, V, 4] and first views [N, 3, S, S] of some batches."""
    index = torch.cat([batch.index for batch in batches]).tolist()
    return index, torch.cat([batch.params.box for batch in batches]), torch.cat([batch.views[0] for batch in batches])


@pytest.mark.parametrize("engine", ["reference", "fused"])
def test_no_batch_holds_an_image_twice(engine: str) -> None:
    """Guards: a bad image's neighbour, which mostly stands in the same batch, does not take its place."""
    batches = list(loader(engine=engine))
    assert len(batches) == 8
    for batch in batches:
        assert len(set(batch.index.tolist())) == 12
        assert not BAD & set(batch.index.tolist())


def test_an_image_that_stands_twice_in_an_epoch_has_other_views() -> None:
    """Guards: a replacement has the rows of what it stands for, so that its views are never those that it has in its own right."""
    (batch,) = loader(COUNT)
    twice = [index for index, times in Counter(batch.index.tolist()).items() if times == 2]
    assert len(twice) == len(BAD)
    for index in twice:
        first, second = (batch.index == index).nonzero().flatten().tolist()
        assert not torch.equal(batch.params.box[first], batch.params.box[second])
        assert not torch.equal(batch.views[0][first], batch.views[0][second])
    # rows are those of the sample that was asked for, whichever image came
    asked = EpochOrder(COUNT, SEED, 0)(range(COUNT))
    sides = [9] * COUNT
    rows = hvs.sample_views(RECIPE, seed=SEED, epoch=0, index=asked, height=sides, width=sides)
    assert torch.equal(batch.params.box, rows.box)


@pytest.mark.parametrize(("batch_size", "ranks", "threads"), [(12, 1, 1), (5, 1, 3), (8, 2, 2), (3, 4, 2)])
def test_ranks_batch_sizes_and_threads_do_not_matter(batch_size: int, ranks: int, threads: int) -> None:
    steps = zip(*(loader(batch_size, rank, ranks, num_threads=threads) for rank in range(ranks)), strict=True)
    found, expected = joined([batch for step in steps for batch in step]), joined(list(loader(COUNT)))
    assert found[0][:COUNT] == expected[0]
    assert torch.equal(found[1][:COUNT], expected[1]) and torch.equal(found[2][:COUNT], expected[2])


def test_resuming_gives_the_same_replacements() -> None:
    """Even where the bad images were met before it stopped, and lie behind it."""
    whole = joined(list(loader(COUNT)))
    first = loader(12, num_threads=2)
    iterator = iter(first)
    before = [next(iterator) for _ in range(3)]
    state = first.state_dict()
    iterator.close()
    second = [loader(6, rank, 2) for rank in range(2)]
    for each in second:
        each.load_state_dict(state)
    found = joined(before + [batch for step in zip(*second, strict=True) for batch in step])
    assert found[0] == whole[0] and torch.equal(found[1], whole[1]) and torch.equal(found[2], whole[2])


def test_a_source_with_one_good_image_ends_with_it() -> None:
    source = images(7, set(range(7)) - {2})
    (batch,) = hvs.ViewLoader(source, RECIPE, 7, engine="reference", max_bad_share=1)
    assert batch.index.tolist() == [2] * 7
    assert len({tuple(box.flatten().tolist()) for box in batch.params.box}) > 1
