"""Loaders on several ranks: together they go through the epoch, in equal steps, and another number of ranks goes on where they stop."""

import json
import os
from pathlib import Path
from unittest.mock import patch

import torch
import torch.distributed as dist
from models import from_all

import hvs_data as hvs
from hvs_data.loaders.order import EpochOrder
from hvs_data.threads.this_rank import current_rank

SEED = 7
BATCH = 3
RECIPE = hvs.recipes.simsiam(candidates=2, size=8)


def make(photos, **options):
    return hvs.ViewLoader(photos, RECIPE, options.pop("batch_size", BATCH), seed=SEED, engine="reference", num_threads=2, **options)


def order(length, epoch=0):
    return EpochOrder(length, SEED, epoch)(range(length)).tolist()


def dealt(batches):
    """Samples of all ranks in the order of the epoch: step by step, in each the block of every rank."""
    steps = zip(*from_all([batch.index.tolist() for batch in batches]), strict=True)
    return [index for step in steps for block in step for index in block]


def check_the_rank_is_found(*_):
    expected = dist.get_rank(), dist.get_world_size()
    assert current_rank(None, None) == expected
    with patch("torch.distributed.is_initialized", return_value=False):  # as before init_process_group
        assert current_rank(None, None) == expected == (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    assert current_rank(1, 5) == (1, 5)


def check_the_ranks_share_an_epoch(photos, *_):
    for drop_last in (False, True):
        loader = make(photos, drop_last=drop_last)
        length, ranks = len(loader.dataset), dist.get_world_size()
        for epoch in range(2):
            expected = list(loader.sampler)
            batches = list(loader)
            assert [index for batch in batches for index in batch.index.tolist()] == expected
            assert from_all(len(batches)) == [len(loader)] * ranks
            sizes = [len(batch.index) for batch in batches]
            assert from_all(sizes) == [sizes] * ranks
            samples = dealt(batches)
            if drop_last:
                assert sizes == [BATCH] * (length // (BATCH * ranks))
                assert samples == order(length, epoch)[: len(samples)]
            else:
                assert samples[:length] == order(length, epoch)
                # what fills up the last step is less than a sample a rank, and comes from the epoch's beginning
                assert samples[length:] == samples[: len(samples) - length] and len(samples) - length < ranks


def check_rows_belong_to_samples_and_not_to_ranks(photos, *_):
    alone = make(photos, rank=0, world_size=1, batch_size=64)
    (whole,) = alone
    position = {int(index): row for row, index in enumerate(whole.index)}
    for batch in make(photos):
        rows = [position[int(index)] for index in batch.index]
        for name, tensor in batch.params.tensors().items():
            assert torch.equal(tensor, whole.params.tensors()[name][rows])
        assert all(torch.equal(view, expected[rows]) for view, expected in zip(batch.views, whole.views, strict=True))


def stopped(loader, steps):
    """The samples of the first steps and the state after them."""
    batches = []
    for batch in loader:
        batches.append(batch)
        if len(batches) == steps:
            break
    return dealt(batches), loader.state_dict()


def goes_on(loader, state, before):
    """The samples before and after a stop are those of the epoch."""
    loader.load_state_dict(state)
    loader.set_epoch(state["epoch"])
    length = len(loader.dataset)
    after = dealt(list(loader))
    assert before + after[: length - len(before)] == order(length, state["epoch"])


def check_an_epoch_goes_on_with_another_number_of_ranks(photos, shared, *_):
    """Stops of launches before this one are taken up, and this one's is left for the next."""
    for file in sorted(Path(shared).glob("*.json")):
        stop = json.loads(file.read_text())
        for batch_size in (BATCH, 2):
            goes_on(make(photos, batch_size=batch_size), stop["state"], stop["samples"])
    samples, state = stopped(make(photos), 1)
    assert from_all(state) == [state] * dist.get_world_size()
    dist.barrier()  # all have read
    if dist.get_rank() == 0:
        (Path(shared) / f"{dist.get_world_size()}.json").write_text(json.dumps({"state": state, "samples": samples}))
    # as if only two ranks were left
    ranks = min(dist.get_world_size(), 2)
    rank = dist.get_rank() % ranks
    loader = make(photos, rank=rank, world_size=ranks)
    loader.load_state_dict(state)
    steps = list(zip(*from_all([batch.index.tolist() for batch in loader])[:ranks], strict=True))
    after = [index for step in steps for block in step for index in block]
    assert samples + after[: len(loader.dataset) - len(samples)] == order(len(loader.dataset))
